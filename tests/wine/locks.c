/* A double for what Wine lacks of Windows, for tests only. Linked into a test program it takes the
   place of the imports, and the program does not know.

   - A wait for a lock on an overlapped handle: Wine begins it and never ends it. Here a thread
     tries every 2 ms, then sets the event.
   - Unlocking what is not locked: Wine answers ERROR_LOCK_VIOLATION, Windows ERROR_NOT_LOCKED.
   - Removing the name of an open file at once (FILE_DISPOSITION_FLAG_POSIX_SEMANTICS): here the
     file gets a name at the root of its drive first, and goes when it is closed. DeleteFile does
     the same, as it has on Windows since version 10.
   - The number of a volume (FileIdInfo): Wine forgets it once a file is renamed through another
     handle. Here all volumes have the same.

   It says nothing about the kernel of Windows; it lets what is above it run. */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

#define IN_PROGRESS 0x103
#define CANCELLED 0xC0000120

typedef BOOL(WINAPI *lock_fn)(HANDLE, DWORD, DWORD, DWORD, DWORD, LPOVERLAPPED);
typedef BOOL(WINAPI *cancel_fn)(HANDLE, LPOVERLAPPED);
typedef BOOL(WINAPI *unlock_fn)(HANDLE, DWORD, DWORD, DWORD, DWORD);
typedef BOOL(WINAPI *set_fn)(HANDLE, FILE_INFO_BY_HANDLE_CLASS, LPVOID, DWORD);

static FARPROC real(const char *name) {
  return GetProcAddress(GetModuleHandleA("kernel32.dll"), name);
}

/* One wait; in a list while it lasts. */
struct wait {
  struct wait *next;
  HANDLE file;
  LPOVERLAPPED noted;
  DWORD flags, low, high;
  BOOL called_off;
};

static SRWLOCK mutex = SRWLOCK_INIT;
static struct wait *waits;

/* Tries once; answers whether the wait is over. Under the mutex. */
static BOOL try_once(struct wait *wait) {
  OVERLAPPED own = {0};
  ULONG_PTR status = 0;
  own.Offset = wait->noted->Offset;
  own.OffsetHigh = wait->noted->OffsetHigh;
  if (wait->called_off) {
    status = CANCELLED;
  } else if (!((lock_fn)real("LockFileEx"))(wait->file, wait->flags | LOCKFILE_FAIL_IMMEDIATELY, 0,
                                            wait->low, wait->high, &own)) {
    if (GetLastError() == ERROR_LOCK_VIOLATION) return FALSE;
    status = CANCELLED; /* the handle is closed */
  }
  struct wait **place = &waits;
  while (*place != wait) place = &(*place)->next;
  *place = wait->next;
  HANDLE event = wait->noted->hEvent;
  wait->noted->InternalHigh = 0;
  __atomic_store_n(&wait->noted->Internal, status, __ATOMIC_RELEASE);
  if (event) SetEvent(event);
  return TRUE;
}

static DWORD WINAPI waiter(void *argument) {
  struct wait *wait = argument;
  for (;;) {
    AcquireSRWLockExclusive(&mutex);
    BOOL over = try_once(wait);
    ReleaseSRWLockExclusive(&mutex);
    if (over) break;
    Sleep(2);
  }
  free(wait);
  return 0;
}

/* Whether operations on a handle block. The one call of the system that is not documented for
   programs, so looked up. */
static BOOL blocks(HANDLE file) {
  typedef LONG(WINAPI * query_fn)(HANDLE, void *, void *, ULONG, int);
  struct { void *status; ULONG_PTR count; } answer;
  ULONG mode = 0;
  query_fn query = (query_fn)GetProcAddress(GetModuleHandleA("ntdll.dll"), "NtQueryInformationFile");
  return query(file, &answer, &mode, sizeof mode, 16) == 0 && (mode & 0x30);
}

BOOL WINAPI double_LockFileEx(HANDLE, DWORD, DWORD, DWORD, DWORD, LPOVERLAPPED) __asm__("LockFileEx");
BOOL WINAPI double_LockFileEx(HANDLE file, DWORD flags, DWORD zero, DWORD low, DWORD high,
                              LPOVERLAPPED noted) {
  lock_fn lock = (lock_fn)real("LockFileEx");
  if ((flags & LOCKFILE_FAIL_IMMEDIATELY) || blocks(file))
    return lock(file, flags, zero, low, high, noted);
  if (lock(file, flags | LOCKFILE_FAIL_IMMEDIATELY, zero, low, high, noted)) return TRUE;
  if (GetLastError() != ERROR_LOCK_VIOLATION) return FALSE;
  struct wait *wait = calloc(1, sizeof *wait);
  wait->file = file;
  wait->noted = noted;
  wait->flags = flags;
  wait->low = low;
  wait->high = high;
  if (noted->hEvent) ResetEvent(noted->hEvent);
  noted->Internal = IN_PROGRESS;
  noted->InternalHigh = 0;
  AcquireSRWLockExclusive(&mutex);
  wait->next = waits;
  waits = wait;
  ReleaseSRWLockExclusive(&mutex);
  CloseHandle(CreateThread(NULL, 0, waiter, wait, 0, NULL));
  SetLastError(ERROR_IO_PENDING);
  return FALSE;
}

BOOL WINAPI double_CancelIoEx(HANDLE, LPOVERLAPPED) __asm__("CancelIoEx");
BOOL WINAPI double_CancelIoEx(HANDLE file, LPOVERLAPPED noted) {
  BOOL found = FALSE;
  AcquireSRWLockExclusive(&mutex);
  for (struct wait *wait = waits; wait; wait = wait->next)
    if (wait->file == file && (!noted || wait->noted == noted)) found = wait->called_off = TRUE;
  ReleaseSRWLockExclusive(&mutex);
  return found ? TRUE : ((cancel_fn)real("CancelIoEx"))(file, noted);
}

BOOL WINAPI double_UnlockFile(HANDLE, DWORD, DWORD, DWORD, DWORD) __asm__("UnlockFile");
BOOL WINAPI double_UnlockFile(HANDLE file, DWORD from, DWORD from_high, DWORD low, DWORD high) {
  if (((unlock_fn)real("UnlockFile"))(file, from, from_high, low, high)) return TRUE;
  if (GetLastError() == ERROR_LOCK_VIOLATION) SetLastError(ERROR_NOT_LOCKED);
  return FALSE;
}

BOOL WINAPI double_GetFileInformationByHandleEx(HANDLE, FILE_INFO_BY_HANDLE_CLASS, LPVOID, DWORD)
    __asm__("GetFileInformationByHandleEx");
BOOL WINAPI double_GetFileInformationByHandleEx(HANDLE file, FILE_INFO_BY_HANDLE_CLASS class,
                                                LPVOID information, DWORD size) {
  if (!((set_fn)real("GetFileInformationByHandleEx"))(file, class, information, size)) return FALSE;
  if (class == 18 /* FileIdInfo */) *(ULONGLONG *)information = 1;
  return TRUE;
}

static BOOL is_empty(const WCHAR *directory) {
  WCHAR all[1100];
  WIN32_FIND_DATAW entry;
  BOOL empty = TRUE;
  _snwprintf(all, 1100, L"%ls\\*", directory);
  HANDLE search = FindFirstFileW(all, &entry);
  if (search == INVALID_HANDLE_VALUE) return TRUE;
  do
    if (wcscmp(entry.cFileName, L".") && wcscmp(entry.cFileName, L"..")) empty = FALSE;
  while (empty && FindNextFileW(search, &entry));
  FindClose(search);
  return empty;
}

BOOL WINAPI double_SetFileInformationByHandle(HANDLE, FILE_INFO_BY_HANDLE_CLASS, LPVOID, DWORD)
    __asm__("SetFileInformationByHandle");
BOOL WINAPI double_SetFileInformationByHandle(HANDLE file, FILE_INFO_BY_HANDLE_CLASS class,
                                              LPVOID information, DWORD size) {
  static LONG count;
  set_fn set = (set_fn)real("SetFileInformationByHandle");
  if (class != 21 /* FileDispositionInfoEx */ || *(DWORD *)information & ~0x13)
    return set(file, class, information, size);
  WCHAR old[1024];
  FILE_STANDARD_INFO found;
  if (!GetFinalPathNameByHandleW(file, old, 1024, 0)) return FALSE;
  /* Windows removes no directory that has something in it, and has to say so before the rename. */
  if (double_GetFileInformationByHandleEx(file, FileStandardInfo, &found, sizeof found) &&
      found.Directory && !is_empty(old)) {
    SetLastError(ERROR_DIR_NOT_EMPTY);
    return FALSE;
  }
  /* By the handle itself: Wine removes a file by the name that it knows the handle by. */
  struct { FILE_RENAME_INFO to; WCHAR rest[100]; } name = {0};
  /* \\?\C:\ */
  _snwprintf(name.to.FileName, 100, L"%.7lsremoved-%ld-%llx-%ld", old, GetCurrentProcessId(),
             GetTickCount64(), InterlockedIncrement(&count));
  name.to.FileNameLength = wcslen(name.to.FileName) * sizeof(WCHAR);
  FILE_DISPOSITION_INFO removed = {TRUE};
  return set(file, FileRenameInfo, &name, sizeof name) &&
         set(file, FileDispositionInfo, &removed, sizeof removed);
}

typedef BOOL(WINAPI *delete_fn)(LPCWSTR);

BOOL WINAPI double_DeleteFileW(LPCWSTR) __asm__("DeleteFileW");
BOOL WINAPI double_DeleteFileW(LPCWSTR path) {
  DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, at_once = 3;
  DWORD attributes = GetFileAttributesW(path);
  if (attributes == INVALID_FILE_ATTRIBUTES || (attributes & ~FILE_ATTRIBUTE_ARCHIVE))
    return ((delete_fn)real("DeleteFileW"))(path);
  HANDLE file = CreateFileW(path, DELETE, share, NULL, OPEN_EXISTING, 0, NULL);
  if (file == INVALID_HANDLE_VALUE) return FALSE;
  BOOL removed = double_SetFileInformationByHandle(file, 21, &at_once, sizeof at_once);
  DWORD error = GetLastError();
  CloseHandle(file);
  SetLastError(error);
  return removed;
}

lock_fn __imp_LockFileEx = double_LockFileEx;
cancel_fn __imp_CancelIoEx = double_CancelIoEx;
unlock_fn __imp_UnlockFile = double_UnlockFile;
set_fn __imp_SetFileInformationByHandle = double_SetFileInformationByHandle;
delete_fn __imp_DeleteFileW = double_DeleteFileW;
set_fn __imp_GetFileInformationByHandleEx = double_GetFileInformationByHandleEx;
