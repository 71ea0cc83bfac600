// What the main thread and the worker say to each other: plain data, copied or shared.

import type { TreeOptions } from '../file/tree.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { LogFormat } from '../os/log-line.js';
import type { TlsState } from '../tls/take-over.js';
import type { CacheMode } from './metadata.js';
import type { Status } from './status.js';

/** One file to show. */
export interface BridgeFile {
  /** One path component, or empty for a file that is mounted on its own. */
  readonly name: string;
  readonly readOnly: boolean;
  readonly info: ExportInfo;
  /** How the user named the server, for who asks. */
  readonly server: string;
  /** Whether the way to the server is encrypted. */
  readonly tls: boolean;
}

/** What the worker is started with. */
export interface WorkerSettings {
  /** The /dev/fuse descriptor, which the worker owns from now on. */
  readonly device: number;
  /** Read end of the pipe by which the main thread wakes the worker. */
  readonly wake: number;
  readonly files: readonly BridgeFile[];
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
  /** Drop the pages that a file had in the page cache whenever it is opened. */
  readonly dropPagesOnOpen: boolean;
}

/** From the main thread. */
export type ToWorker =
  | {
      readonly type: 'attach';
      readonly file: number;
      readonly connection: number;
      readonly descriptor: number;
      /** The session that `descriptor` carries; undefined where it carries plain text. */
      readonly tls: TlsState | undefined;
      readonly info: ExportInfo;
    }
  | { readonly type: 'fail'; readonly file: number; readonly errno: number }
  /** What `sync-wanted` asked for is done. */
  | { readonly type: 'synced'; readonly file: number }
  /** Tell the status of every file. */
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
      readonly useful: boolean;
    }
  | { readonly type: 'warning'; readonly text: string }
  /** Set the size of this file's inode right: a cached write went past its end. */
  | { readonly type: 'beyond-end'; readonly file: number }
  /** Make the kernel send all writes to this file that it still holds, and say `synced`. */
  | { readonly type: 'sync-wanted'; readonly file: number }
  | { readonly type: 'status'; readonly statuses: readonly Status[] }
  | { readonly type: 'unmounted' }
  | { readonly type: 'stopped'; readonly outcome: StopOutcome }
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
