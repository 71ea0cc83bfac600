// The steps of a history: plain data, so that a list of them can be kept, shortened and played again.
//
// A step uses names that do not depend on other steps: the numbers of kernel requests and connections, the
// type and range of commands (`key`). An impossible step is skipped.

/** A request of the kernel; `id` is its number. */
export type RequestAction = {
  readonly do:
    | 'write'
    | 'read'
    | 'fsync'
    | 'punch'
    | 'zero'
    | 'seek data'
    | 'seek hole'
    | 'open'
    | 'release'
    | 'stat'
    /** A GETATTR for the kernel's own use, before a write. */
    | 'stat by handle';
  readonly id: number;
  readonly file: number;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /** With O_DIRECT; a WRITE without it comes from the page cache. */
  readonly direct: boolean;
  /** The handle of an fsync, a release, or a write with O_DSYNC: the OPEN's `id`, or one of FIRST_HANDLES. */
  readonly handle?: number;
  /** With O_DSYNC. */
  readonly sync: boolean;
  /** The requester is in another namespace: its pid is 0. */
  readonly hidden: boolean;
};

export type Action =
  | RequestAction
  /** The worker wakes up if it has a reason to. */
  | { readonly do: 'run' }
  | { readonly do: 'advance'; readonly ms: number }
  /** The requester of a request gets a signal; `interrupts`: the kernel sends FUSE_INTERRUPT. */
  | { readonly do: 'signal'; readonly id: number; readonly deadly: boolean; readonly interrupts: boolean }
  /** The server reads from its socket. */
  | { readonly do: 'receive'; readonly c: number; readonly bytes: number }
  /** The server executes a command, or fails it with `errno`; `drops`: a failed FLUSH drops writes, as this number says. */
  | {
      readonly do: 'execute';
      readonly c: number;
      readonly key: string;
      readonly errno: number;
      readonly drops?: number;
    }
  | { readonly do: 'reply'; readonly c: number; readonly key: string; readonly pieces: number }
  /** Bytes of replies arrive. */
  | { readonly do: 'deliver'; readonly c: number; readonly bytes: number }
  /** The server closes a connection; the commands that it has begun continue. */
  | { readonly do: 'close'; readonly c: number; readonly reset: boolean }
  /** The network loses all packets of a connection; then it delivers them again. */
  | { readonly do: 'cut'; readonly c: number }
  | { readonly do: 'mend'; readonly c: number }
  | { readonly do: 'kill'; readonly salt: number }
  /** The main thread has seen the end of the server, which is its child. */
  | { readonly do: 'ended' }
  | { readonly do: 'start' }
  /** Another process serves the disk; the old one closes its connections and carries on. */
  | { readonly do: 'succeed' }
  /** The old processes end. */
  | { readonly do: 'bury' }
  | { readonly do: 'freeze' }
  | { readonly do: 'thaw' }
  /**
   * The server ends, and one with another disk takes its place; `described`: also with another description.
   */
  | { readonly do: 'replace'; readonly described: boolean; readonly salt: number }
  /** The first disk returns. */
  | { readonly do: 'restore' }
  /** The main thread makes a connection. */
  | { readonly do: 'connect'; readonly c: number; readonly file: number; readonly slot: number }
  | { readonly do: 'fail'; readonly file: number }
  | { readonly do: 'synced'; readonly file: number; readonly good: boolean }
  | { readonly do: 'stop'; readonly timeout: number }
  | { readonly do: 'unmount' };

/** Whether a step is a request of the kernel. */
export function isRequest(action: Action): action is RequestAction {
  return 'direct' in action;
}

const OPCODES: Readonly<Record<RequestAction['do'], string>> = {
  write: 'FUSE_WRITE',
  read: 'FUSE_READ',
  fsync: 'FUSE_FSYNC',
  punch: 'FUSE_FALLOCATE PUNCH_HOLE',
  zero: 'FUSE_FALLOCATE ZERO_RANGE',
  'seek data': 'FUSE_LSEEK SEEK_DATA',
  'seek hole': 'FUSE_LSEEK SEEK_HOLE',
  open: 'FUSE_OPEN',
  release: 'FUSE_RELEASE',
  stat: 'FUSE_GETATTR',
  'stat by handle': 'FUSE_GETATTR FH',
};

/** A request with the names of the specification. */
export function requestText(action: RequestAction): string {
  const { do: kind, id, offset, length, direct, sync, hidden, handle } = action;
  const place =
    length > 0 ? ` offset ${offset} length ${length}` : kind.startsWith('seek') ? ` offset ${offset}` : '';
  const cached = kind === 'write' || kind === 'read' ? (direct ? ' O_DIRECT' : ' cached') : '';
  return `${OPCODES[kind]} #${id}${place}${cached}${sync ? ' O_DSYNC' : ''}${handle === undefined ? '' : ` handle ${handle}`}${hidden ? ' pid 0' : ''}`;
}

/** A number of the available bytes. */
function amount(bytes: number): string {
  return bytes >= 1e9 ? 'all bytes' : `up to ${bytes} bytes`;
}

/** Describes a step in one line. */
export function actionText(action: Action): string {
  if (isRequest(action)) return `kernel: ${requestText(action)}`;
  switch (action.do) {
    case 'run':
      return 'worker: wakes up';
    case 'advance':
      return `clock: ${action.ms} ms pass`;
    case 'signal':
      return `${action.deadly ? 'SIGINT' : 'SIGALRM'} to the requester of #${action.id}${action.interrupts ? ', FUSE_INTERRUPT' : ''}`;
    case 'receive':
      return `connection ${action.c}: the server reads ${amount(action.bytes)}`;
    case 'execute':
      return `connection ${action.c}: ${action.key} ${action.errno === 0 ? 'executes' : `fails with ${action.errno}`}${action.drops === undefined ? '' : ', and drops writes'}`;
    case 'reply':
      return `connection ${action.c}: ${action.key} is answered`;
    case 'deliver':
      return `connection ${action.c}: ${amount(action.bytes)} of replies arrive`;
    case 'close':
      return `connection ${action.c}: the server closes it${action.reset ? ' with a reset' : ''}`;
    case 'cut':
      return `connection ${action.c}: the network loses all packets`;
    case 'mend':
      return `connection ${action.c}: the network delivers packets again`;
    case 'ended':
      return 'main thread: the server has ended for certain';
    case 'succeed':
      return 'server: another process takes its place, the old one still works';
    case 'bury':
      return 'server: the old process ends';
    case 'kill':
      return 'server: SIGKILL, its cache is lost';
    case 'start':
      return 'server: starts again';
    case 'freeze':
      return 'server: SIGSTOP';
    case 'thaw':
      return 'server: SIGCONT';
    case 'replace':
      return `server: ends, another disk ${action.described ? 'with another description ' : ''}is in its place`;
    case 'restore':
      return 'server: the first disk is there again';
    case 'connect':
      return `main thread: makes connection slot ${action.slot}`;
    case 'fail':
      return 'main thread: the time limit is over (fail)';
    case 'synced':
      return `main thread: synced, ${action.good ? 'good' : 'not good'}`;
    case 'stop':
      return `main thread: stop within ${action.timeout} ms`;
    case 'unmount':
      return 'kernel: the file system is unmounted';
  }
}
