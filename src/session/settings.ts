// What a session is asked to do, and to whom it reports: plain data and one small interface.
//
// Made by the command line, read by the files of this folder. Pure types; nothing here is loaded at
// run time.

import type { LogFormat } from '../linux/log-line.js';
import type { CacheMode, Status } from '../worker/contract/status.js';

/** How the user named the server: the modes of the command line. */
export type ServerMode =
  | { readonly kind: 'uri'; readonly uri: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number | string }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'vsock'; readonly cid: number; readonly port: number }
  | { readonly kind: 'fd'; readonly fd: number }
  | { readonly kind: 'command'; readonly argv: readonly string[] }
  | { readonly kind: 'socket-activation'; readonly argv: readonly string[] };

export type FuseBackend = 'kernel' | 'fuse-native';

/** Everything that one mount is told by its user. */
export interface Settings {
  /** MOUNTPOINT[/FILENAME] as typed. */
  readonly mountpoint: string;
  readonly server: ServerMode;
  /** Show every export of the server as a file of the directory MOUNTPOINT. */
  readonly all: boolean;
  /** Export to ask for in the modes without a URI; undefined: the server's default export. */
  readonly exportName: string | undefined;
  /** Connections to open where the server and the mode allow several: 1 to 1024. */
  readonly connections: number;
  /** Arguments of `-o`, each a list with commas. */
  readonly fuseOptions: readonly string[];
  readonly pidfile: string | undefined;
  readonly readOnly: boolean;
  /** Threads that serve the file: 1 to 64. */
  readonly threads: number;
  readonly verbose: boolean;
  readonly logFormat: LogFormat;
  readonly backend: FuseBackend;
  readonly cache: CacheMode;
  /** Milliseconds that requests wait for a lost server before they fail; Infinity: forever. */
  readonly reconnectMs: number;
  /** Whether a server that is our child is started again when it is lost. */
  readonly restart: boolean;
  /** Milliseconds without progress after which a connection counts as lost; 0: never. */
  readonly timeoutMs: number;
  /** Milliseconds after which what was sent on a lost connection has been made or dropped; Infinity: only proof counts. */
  readonly settleMs: number;
}

/** Where messages go. Texts come without the program's name and without a line end. */
export interface Report {
  /** A line that the user must see: that something is wrong, or (`info`) that it is right again. */
  line(text: string, level?: 'warning' | 'info'): void;
  /** A line for `--verbose`. */
  detail(text: string): void;
  /** The line of an error; with `--verbose` also where it came from. */
  error(error: unknown): void;
  /** What a server that we started writes to standard error, as it comes. */
  serverSaid(chunk: Buffer): void;
  /** What can be seen of the file at `path`, since somebody wants to know. */
  status(path: string, status: Status): void;
}
