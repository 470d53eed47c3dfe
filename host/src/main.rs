//! Tool.
fn main(){}
