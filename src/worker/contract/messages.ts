// What the main thread and the worker say to each other: plain data, copied or shared.

import type { TreeOptions } from '../../fuse/tree.js';
import type { LogFormat } from '../../linux/log-line.js';
import type { PeerHandle } from '../../linux/peer.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { TlsState } from '../../tls/take-over.js';
import type { FileStatus } from './status.js';

/** How the kernel caches file data: see `--cache`. */
export type CacheMode = 'writeback' | 'writethrough' | 'none';

/** Memory that a read thread and the worker share: see read-threads/ring. */
export interface RingMemory {
  readonly state: SharedArrayBuffer;
  readonly entries: SharedArrayBuffer;
  /** The read thread's counters of the file: see COUNTER. */
  readonly counters: SharedArrayBuffer;
}

/** One file to show. */
export interface ServedFile {
  /** One path component, or empty for a file that is mounted on its own. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Undefined: not known yet, to be asked for when somebody wants to know. */
  readonly info: ExportInfo | undefined;
  /** How the user named the server, for who asks. */
  readonly server: string;
  /** Whether the way to the server is encrypted. */
  readonly tls: boolean;
}

/** How the list of files has changed. */
export interface ListChange {
  readonly added: readonly { readonly number: number; readonly file: ServedFile }[];
  /** Numbers of files that are shown no more. */
  readonly removed: readonly number[];
}

/** What the worker is started with. */
export interface WorkerSettings {
  /** The /dev/fuse descriptor, which the worker owns from now on. */
  readonly device: number;
  /** Read end of the pipe by which the main thread wakes the worker. */
  readonly wake: number;
  /** Shown and connected from the start, with their places as numbers. */
  readonly files: readonly ServedFile[];
  /** Files come and go, told by `listed`, and are connected when they are opened. */
  readonly changing: boolean;
  /** The file itself is the mountpoint. */
  readonly naked: boolean;
  readonly tree: TreeOptions;
  readonly cache: CacheMode;
  /** How every request is to be told on standard error; undefined: not at all. */
  readonly trace: LogFormat | undefined;
  /** Bytes of written data to remember until a FLUSH covers them; 0 for none. */
  readonly keepBytes: number;
  /** Milliseconds without a sign of life after which a connection with requests is lost; 0 for never. */
  readonly timeout: number;
  /** Milliseconds after the end of a connection when its server has certainly made or dropped what it was sent. */
  readonly settleTime: number;
  readonly asyncRead: boolean;
  readonly maxBackground?: number;
  readonly congestionThreshold?: number;
  /** Bytes. */
  readonly maxReadahead?: number;
  /** Seconds. */
  readonly attributeTimeout?: number;
  readonly entryTimeout?: number;
  readonly negativeTimeout?: number;
  /** Read ahead of sequential readers of far servers. */
  readonly readAhead: boolean;
  /** Readers at most. */
  readonly readers: number;
  /** They are there all the time, and need not be asked for. */
  readonly readersAlways: boolean;
  /** Drop the pages that a file had in the page cache whenever it is opened. */
  readonly dropPagesOnOpen: boolean;
}

/** A connection in its transmission phase. */
interface Attachment {
  readonly type: 'attach';
  readonly connection: number;
  readonly descriptor: number;
  /** The session that `descriptor` carries; undefined where it carries plain text. */
  readonly tls: TlsState | undefined;
  readonly peer: PeerHandle | undefined;
  readonly info: ExportInfo;
}

/** From the main thread. */
export type ToWorker =
  | (Attachment & {
      readonly file: number;
      /** Its number among all connections of the file, from 1. */
      readonly arrival: number;
    })
  | { readonly type: 'fail'; readonly file: number; readonly errno: number }
  /** The server that the first `attached` connections of a file led to has ended for certain. */
  | { readonly type: 'server-ended'; readonly file: number; readonly attached: number }
  /** What `sync-wanted` asked for is done; or (not `good`) cannot be. */
  | { readonly type: 'synced'; readonly file: number; readonly good: boolean }
  /** Answers `list-wanted`: the list is as new as it can be had. */
  | { readonly type: 'listed'; readonly change: ListChange }
  /** Answers `description-wanted`; `errno` 0, or why it cannot be had. */
  | { readonly type: 'described'; readonly number: number; readonly file: ServedFile; readonly errno: number }
  /** Answers `wanted` where no connection can be had; otherwise `attach` does. */
  | { readonly type: 'refuse'; readonly file: number; readonly errno: number }
  /** There is one more reader, which reads requests from `descriptor` and is woken by `wake`. */
  | {
      readonly type: 'reader';
      /** Number of its connection. */
      readonly connection: number;
      readonly descriptor: number;
      readonly wake: number;
      readonly memory: RingMemory;
    }
  /** Does a connection that has been made lead to a server that has everything acknowledged? Say `proven`. */
  | { readonly type: 'prove' }
  /** Tell the status of every file that is in use. */
  | { readonly type: 'status' }
  /** Take nothing more from the kernel, let what is under way end, flush, disconnect, end. */
  | { readonly type: 'stop'; readonly timeout: number };

/** From the worker. */
export type FromWorker =
  | { readonly type: 'ready' }
  | {
      readonly type: 'lost';
      readonly file: number;
      readonly connection: number;
      readonly why: string;
      /** Whether it was of use: it answered something, or was asked nothing and broke no rule. */
      readonly madeProgress: boolean;
      /** Whether it leads to another disk than the file's. */
      readonly otherDisk: boolean;
    }
  /** A connection leads to the file's disk, as far as can be told, and will be used. */
  | { readonly type: 'accepted'; readonly file: number; readonly connection: number }
  | { readonly type: 'warning'; readonly text: string }
  /** Set the size of this file's inode right: a cached write went past its end. */
  | { readonly type: 'beyond-end'; readonly file: number }
  /** Make the kernel send all writes to this file that it still holds, and say `synced`. */
  | { readonly type: 'sync-wanted'; readonly file: number }
  /** Is there a newer list of files? Answer with `listed`. */
  | { readonly type: 'list-wanted' }
  /** Somebody opens a file: connect it, with `attach`, or `refuse`. */
  | { readonly type: 'wanted'; readonly file: number }
  /** Find out the size of a file and the rest, and say `described`. */
  | { readonly type: 'description-wanted'; readonly file: number }
  /** A file has let go of its connections; `wanted` comes before it gets others. */
  | { readonly type: 'idle'; readonly file: number }
  /** One thread is not enough: connect one more reader. */
  | { readonly type: 'reader-wanted' }
  | { readonly type: 'proven'; readonly good: boolean }
  /** Who asked for a request that a reader may have has had a signal. */
  | { readonly type: 'interrupted'; readonly uniqueHi: number; readonly uniqueLo: number }
  | { readonly type: 'status'; readonly statuses: readonly FileStatus[] }
  | { readonly type: 'unmounted' }
  | { readonly type: 'stopped'; readonly outcome: StopOutcome }
  | { readonly type: 'failed'; readonly text: string };

/** What a reader is started with. */
export interface ReadThreadSettings
  extends Pick<
    WorkerSettings,
    'device' | 'wake' | 'naked' | 'tree' | 'trace' | 'timeout' | 'settleTime' | 'readAhead' | 'readersAlways'
  > {
  readonly file: ServedFile;
  /** Write end of the pipe that wakes the worker. */
  readonly workerWake: number;
  readonly memory: RingMemory;
}

/** From the main thread to a reader. */
export type ToReadThread =
  | Attachment
  /** Who asked for a request has had a signal. */
  | { readonly type: 'interrupted'; readonly uniqueHi: number; readonly uniqueLo: number }
  /** Pass on what is under way, disconnect, end when the worker has taken it; or (`now`) at once, for it has ended. */
  | { readonly type: 'stop'; readonly now: boolean };

/** From a reader. */
export type FromReadThread =
  /** It will take its messages; nothing was taken from the kernel before. */
  | { readonly type: 'started' }
  | { readonly type: 'lost'; readonly why: string }
  | { readonly type: 'failed'; readonly text: string };

/** How a stop has ended. */
export interface StopOutcome {
  /** Bytes that were written to a file and that the server has not taken, or not flushed. */
  readonly unwrittenBytes: number;
  /** Which: at most 16 of them, as `name: offset 4096 length 512`. */
  readonly ranges: readonly string[];
  /** Why not all is well: `timeout`, the errno of the last FLUSH, or `loss` of what was acknowledged. */
  readonly reason: string;
}
