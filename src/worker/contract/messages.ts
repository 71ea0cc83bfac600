// The contract between the main thread, the worker and the read threads: every message, declared once.
//
// An interface declares the calls of one direction; call.ts sends and delivers them. The first call in a thread is one of
// ToIdleThread.

import type { ChunkStatus, KeptImage } from '../../chunks/contract/status.js';
import type { TreeOptions } from '../../fuse/tree.js';
import type { LogFormat } from '../../linux/log-line.js';
import type { PeerHandle } from '../../linux/peer.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { TlsState } from '../../tls/take-over.js';
import type { CacheMode, FileStatus } from './status.js';

/** Memory that a read thread and the worker share: see read-threads/ring. */
export interface RingMemory {
  readonly state: SharedArrayBuffer;
  readonly entries: SharedArrayBuffer;
  /** The read thread's counters of the file: see COUNTER. */
  readonly counters: SharedArrayBuffer;
}

/** One file of the mount. */
export interface ServedFile {
  /** One path component, or empty if the file itself is the mountpoint. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Undefined: not known yet; `descriptionWanted` asks for it. */
  readonly info: ExportInfo | undefined;
  /** The server as the user named it, for the status. */
  readonly server: string;
  /** Whether the connections are encrypted. */
  readonly tls: boolean;
}

/** A part of a disk that is a file of its own: a partition. Its texts are those of the disk. */
export interface PartDescription {
  /** One path component. */
  readonly name: string;
  /** Bytes of the disk. */
  readonly offset: bigint;
  readonly size: bigint;
  /** As in `Partition`. */
  readonly number: number;
  readonly type: string;
  readonly label: string;
  readonly uuid: string;
}

/** A change of the list of files. */
export interface ListChange {
  readonly added: readonly { readonly number: number; readonly file: ServedFile }[];
  /** Numbers of files that are not shown any more. */
  readonly removed: readonly number[];
}

/** The wish that the kernel reads the file without nbdfuse, once its bytes are complete in a local file. */
export interface PassthroughWish {
  /** Why that is not possible; undefined if nothing is known yet. */
  readonly objection: string | undefined;
}

/** A local file with the bytes of the mount's only file, of the same size; or why there is none. */
export type LocalCopy =
  | {
      /** Open until the answer. */
      readonly descriptor: number;
      /** Whether O_DIRECT reads multiples of 512 bytes of it. */
      readonly direct: boolean;
    }
  | { readonly why: string };

/** The cache file of a disk, open for reading. The receiver owns the descriptors. */
export interface KeptFiles {
  readonly image: KeptImage;
  /** Of FILE. */
  readonly data: number;
  /** Of FILE.index. */
  readonly index: number;
}

/** The settings with which the worker starts. */
export interface WorkerSettings {
  /** Of the program. */
  readonly version: string;
  /** The /dev/fuse descriptor, which the worker owns from now on. */
  readonly device: number;
  /** Read end of the pipe by which the main thread wakes the worker. */
  readonly wake: number;
  /** Shown and connected from the start, with their places as numbers. */
  readonly files: readonly ServedFile[];
  /** Files come and go (`listed`), and get connections when programs open them. */
  readonly changing: boolean;
  /** The file itself is the mountpoint. */
  readonly fileMountpoint: boolean;
  readonly tree: TreeOptions;
  readonly cache: CacheMode;
  /** Format of the trace on standard error; undefined for no trace. */
  readonly trace: LogFormat | undefined;
  /** Bytes of written data to remember until a FLUSH covers them; 0 for none. */
  readonly unflushedLimit: number;
  /** See DiskContext. */
  readonly wholeReads: boolean;
  /** Milliseconds without data from the server after which a connection with requests is lost; 0 for never. */
  readonly timeout: number;
  /** Milliseconds from the end of a connection until its server has certainly executed or dropped its commands. */
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
  /** Read ahead of sequential streams on remote servers. */
  readonly readAhead: boolean;
  /** Read threads that may be added. */
  readonly readThreads: number;
  /** Drop the pages that a file had in the page cache whenever it is opened. */
  readonly dropPagesOnOpen: boolean;
  /** Undefined where no local file is to be expected. */
  readonly passthrough?: PassthroughWish | undefined;
}

/** A connected stream socket that never blocks, in the transmission phase of NBD. The receiver owns it. */
export interface ConnectedSocket {
  readonly descriptor: number;
  /** The TLS session on it; undefined for plain text. */
  readonly tls: TlsState | undefined;
  /** The server's process, if the kernel proves which one it is; its descriptors belong to the socket. */
  readonly peer: PeerHandle | undefined;
}

/** A connection for a file. */
export interface Attachment extends ConnectedSocket {
  /** The connection's number, for users. */
  readonly connection: number;
  readonly info: ExportInfo;
}

/** A connection for a file of the worker. */
export interface FileAttachment extends Attachment {
  readonly file: number;
  /** Its number among all connections of the file, from 1. */
  readonly arrival: number;
}

/** Facts about a lost connection. */
export interface LossOutcome {
  /** It answered a command, or had none and broke no rule. */
  readonly madeProgress: boolean;
  /** It leads to another disk. */
  readonly otherDisk: boolean;
}

/** A read thread as the worker sees it. */
export interface ReadThreadEnd {
  /** Number of its connection. */
  readonly connection: number;
  /** Its clone of the /dev/fuse descriptor. */
  readonly descriptor: number;
  /** Write end of the pipe that wakes it. */
  readonly wake: number;
  readonly memory: RingMemory;
}

/** Calls of the main thread in a thread that waits for its work: `report` at any time, then one of the others. */
export interface ToIdleThread<Settings> {
  /** Asks for `loaded`. */
  report(): void;
  /** Gives it its work. */
  begin(settings: Settings): void;
  /** Ends it without work. */
  dismiss(): void;
}

/** Calls of a thread that waits for its work in the main thread. */
export interface FromIdleThread {
  /** It needs no more files. */
  loaded(): void;
}

/** Calls of every thread in the main thread. */
export interface FromThread {
  /** A defect has ended the thread's work. @param text maybe with a stack */
  failed(text: string): void;
}

/** Calls of the main thread in the worker. Files have numbers from 0, which are never used twice. */
export interface ToWorker {
  /** Gives a file a connection. */
  attach(attachment: FileAttachment): void;
  /**
   * Requests that wait for a connection, and new ones, fail with `errno` until a new connection is accepted.
   */
  fail(file: number, errno: number): void;
  /** The server of the first `attached` connections of a file has ended: none of their commands runs any more. */
  serverEnded(file: number, attached: number): void;
  /** Answers `syncWanted`. @param good false: it could not be done */
  synced(file: number, good: boolean): void;
  /** Answers `listWanted`. The main thread sends the first list without it. */
  listed(change: ListChange): void;
  /** Answers `descriptionWanted`. @param errno 0, or the reason that there is no description */
  described(file: number, description: ServedFile, errno: number): void;
  /** Answers `connectionWanted` if there is no connection: open(2) fails with `errno`. */
  refuse(file: number, errno: number): void;
  /** Shows parts of a file's disk as files, from now on. */
  showParts(file: number, parts: readonly PartDescription[]): void;
  /** The state of the chunk server behind a file's disk, for its status. */
  chunksChanged(file: number, chunks: ChunkStatus): void;
  /**
   * Lets the worker read the cache file of the chunk server behind a file's disk, until a connection of the file is lost
   * or attached; or not any more (undefined).
   */
  readKept(file: number, files: KeptFiles | undefined): void;
  addReadThread(thread: ReadThreadEnd): void;
  /** Asks for `proven`. */
  prove(): void;
  /** Asks for `status`. */
  tellStatus(): void;
  /** Lets the kernel read the only file without nbdfuse: programs that open it from now on. Answered by `passedThrough`. */
  passThrough(copy: LocalCopy): void;
  /** Takes no more requests, ends the requests in flight within `timeout` milliseconds, flushes, disconnects. */
  stop(timeout: number): void;
}

/** Calls of the worker about the connections of a file, to the owner of its reconnection. */
export interface ConnectionEvents {
  /** A connection is lost; its commands wait for another one. */
  connectionLost(file: number, connection: number, why: string, outcome: LossOutcome): void;
  /** A new connection has passed the identity check and is in use. */
  connectionAccepted(file: number, connection: number): void;
}

/** Calls of the worker about a directory whose files come and go. */
export interface DirectoryEvents {
  /** Answer with `listed`. */
  listWanted(): void;
  /** A program opens a file: answer with `attach` or `refuse`. The call may repeat. */
  connectionWanted(file: number): void;
  /** A program looks at a file without `info`: answer with `described`. */
  descriptionWanted(file: number): void;
  /** A file has given up its connections. */
  idle(file: number): void;
}

/** Calls of the worker about inodes that it cannot change alone, to the owner of the mount. */
export interface InodeEvents {
  /** A cached write went past the end of a file: correct the size of its inode. */
  beyondEnd(file: number): void;
  /** Make the kernel write back the dirty pages of a file: answer with `synced`. */
  syncWanted(file: number): void;
}

/** Calls of the worker in the main thread. */
export interface FromWorker extends FromThread, ConnectionEvents, DirectoryEvents, InodeEvents {
  /** The kernel's FUSE_INIT is answered. */
  ready(): void;
  /** One line for the user. */
  warning(text: string): void;
  /** One line for `--verbose`. */
  detail(text: string): void;
  /** Answers `passThrough`. @param why empty, or why the kernel does not read the file without nbdfuse */
  passedThrough(why: string): void;
  /** Answers `prove`: whether new connections lead to a server that has every acknowledged byte. */
  proven(good: boolean): void;
  /** A signal has hit the requester of a request that a read thread may have. */
  interrupted(uniqueHi: number, uniqueLo: number): void;
  /** Answers `tellStatus`. */
  status(statuses: readonly FileStatus[]): void;
  /** The kernel has released the mount; the worker flushes and stops. */
  unmounted(): void;
  stopped(outcome: StopOutcome): void;
}

/** The calls of a backend, the worker or another one, that the session receives. */
export interface MountEvents extends Pick<FromWorker, 'warning' | 'detail' | 'unmounted' | 'failed'> {
  /** Receives the calls about the files' connections, and with --all about their directory. */
  readonly files: ConnectionEvents & Partial<DirectoryEvents>;
}

/** The settings with which a read thread starts. */
export interface ReadThreadSettings
  extends Pick<
    WorkerSettings,
    'device' | 'wake' | 'fileMountpoint' | 'tree' | 'trace' | 'timeout' | 'settleTime' | 'readAhead'
  > {
  readonly file: ServedFile;
  /** Write end of the pipe that wakes the worker. */
  readonly workerWake: number;
  readonly memory: RingMemory;
}

/** Calls of the main thread in a read thread. */
export interface ToReadThread {
  attach(attachment: Attachment): void;
  /** A signal has hit the requester of a request. */
  interrupted(uniqueHi: number, uniqueLo: number): void;
  /** Forward the requests in flight and end when the worker has taken them; or (`now`) end at once. */
  stop(now: boolean): void;
}

/** Calls of a read thread about its connection, to the owner of its reconnection. */
export interface ReadThreadEvents {
  /** The connection is lost; the worker has taken over the requests. */
  connectionLost(why: string): void;
}

/** Calls of a read thread in the main thread. */
export interface FromReadThread extends FromThread, ReadThreadEvents {
  /** It takes calls from now on; it has taken no request from the kernel before. */
  started(): void;
}

/** The result of a stop. */
export interface StopOutcome {
  /** Bytes written to files that the server has not taken, or not flushed. */
  readonly unwrittenBytes: number;
  /** At most 16 ranges of them, as `name: offset 4096 length 512`. */
  readonly ranges: readonly string[];
  /** Empty, or why bytes are missing: `timeout`, the errno of the last FLUSH, or `loss` of acknowledged bytes. */
  readonly reason: string;
}
