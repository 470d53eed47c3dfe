declare module "locket:test/counter@0.1.0" {
  export function read(): number;
  export function write(value: number): void;
}
