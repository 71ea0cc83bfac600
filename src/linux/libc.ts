// The C library through koffi: all system calls go through here.
//
// Used by the rest of this directory and by the worker's hot loop. Arguments are plain numbers, and memory is passed by
// address (`addressOf`), so that a call allocates nothing. -1 means failure: read `errno()` before the next call. No
// call retries on EINTR.

import { koffi } from './koffi.js';

function load() {
  const library = koffi.load(null);
  return {
    read: library.func('read', 'long', ['int', 'size_t', 'size_t']),
    write: library.func('write', 'long', ['int', 'size_t', 'size_t']),
    writev: library.func('writev', 'long', ['int', 'size_t', 'int']),
    recv: library.func('recv', 'long', ['int', 'size_t', 'size_t', 'int']),
    send: library.func('send', 'long', ['int', 'size_t', 'size_t', 'int']),
    recvmsg: library.func('recvmsg', 'long', ['int', 'size_t', 'int']),
    sendmsg: library.func('sendmsg', 'long', ['int', 'size_t', 'int']),
    poll: library.func('poll', 'int', ['size_t', 'unsigned long', 'int']),
    splice: library.func('splice', 'long', ['int', 'size_t', 'int', 'size_t', 'size_t', 'unsigned int']),
    vmsplice: library.func('vmsplice', 'long', ['int', 'size_t', 'size_t', 'unsigned int']),
    open: library.func('open', 'int', ['str', 'int', 'int']),
    close: library.func('close', 'int', ['int']),
    dup2: library.func('dup2', 'int', ['int', 'int']),
    fcntl: library.func('fcntl', 'int', ['int', 'int', 'size_t']),
    ioctl: library.func('ioctl', 'int', ['int', 'unsigned long', 'size_t']),
    socket: library.func('socket', 'int', ['int', 'int', 'int']),
    connect: library.func('connect', 'int', ['int', 'size_t', 'unsigned int']),
    bind: library.func('bind', 'int', ['int', 'size_t', 'unsigned int']),
    listen: library.func('listen', 'int', ['int', 'int']),
    getsockname: library.func('getsockname', 'int', ['int', 'size_t', 'size_t']),
    getsockopt: library.func('getsockopt', 'int', ['int', 'int', 'int', 'size_t', 'size_t']),
    setsockopt: library.func('setsockopt', 'int', ['int', 'int', 'int', 'size_t', 'unsigned int']),
    socketpair: library.func('socketpair', 'int', ['int', 'int', 'int', 'size_t']),
    shutdown: library.func('shutdown', 'int', ['int', 'int']),
    pipe2: library.func('pipe2', 'int', ['size_t', 'int']),
    mount: library.func('mount', 'int', ['str', 'str', 'str', 'unsigned long', 'str']),
    umount2: library.func('umount2', 'int', ['str', 'int']),
    sched_yield: library.func('sched_yield', 'int', []),
    fallocate: library.func('fallocate', 'int', ['int', 'int', 'int64', 'int64']),
    getxattr: library.func('getxattr', 'long', ['str', 'str', 'size_t', 'size_t']),
    madvise: library.func('madvise', 'int', ['size_t', 'size_t', 'int']),
    calloc: library.func('calloc', 'size_t', ['size_t', 'size_t']),
    memfd_create: library.func('memfd_create', 'int', ['str', 'unsigned int']),
    memcpy: library.func('memcpy', 'size_t', ['size_t', 'size_t', 'size_t']),
    getpagesize: library.func('getpagesize', 'int', []),
    /** System calls with up to two integers for which glibc has no function. */
    syscall: library.func('syscall', 'long', ['long', 'long', 'long']),
    strerror: library.func('strerror', 'str', ['int']),
  };
}

type Libc = ReturnType<typeof load>;

/**
 * The functions, named as in their manual pages. Addresses and sizes are numbers of bytes. The first use of one loads
 * all, and replaces the proxy: keep no other reference than this binding.
 */
export let libc: Libc = new Proxy({} as Libc, { get: (_, name) => loadLibc()[name as keyof Libc] });

let real: Libc | undefined;

/** Loads the functions now, for users that keep a reference. */
export function loadLibc(): Libc {
  real ??= load();
  libc = real;
  return real;
}

/**
 * The views of the last addresses. An address keeps nothing alive: without this the garbage collector could free a view
 * between `addressOf` and the call that uses the address.
 */
const recent: ArrayBufferView[] = [];
const MOST_RECENT = 16;
let calls = 0;

/**
 * The address of the first byte of `view`; exact, as user space ends below 2^47. To use it beyond the next call, keep
 * a reference to `view`.
 */
export function addressOf(view: ArrayBufferView): number {
  recent[calls++ % MOST_RECENT] = view;
  return Number(koffi.address(view));
}

/**
 * Allocates zeroed memory that belongs to the process, not to this thread: it stays when the thread ends, and is never
 * freed. @throws RangeError
 */
export function allocateForProcess(bytes: number): ArrayBuffer {
  const address = libc.calloc(bytes, 1);
  if (address === 0) throw new RangeError('out of memory');
  return koffi.view(BigInt(address), bytes);
}

/** koffi unloads a library when its handle is garbage-collected. */
const loaded: unknown[] = [];

/** Loads a shared library for the life of this process, for other libraries that need it. @throws Error */
export function loadLibrary(path: string): void {
  loaded.push(koffi.load(path, { global: true }));
}

/** The error number of this thread's last failed call. */
export function errno(): number {
  return koffi.errno();
}
