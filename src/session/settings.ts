// The settings of a session, and the interface for its messages: plain data and one small interface.
//
// Made by the command line, read by the files of this folder. Pure types; nothing here is loaded at
// run time.

import type { LogFormat } from '../linux/log-line.js';
import type { StartedServer } from '../transport/started-server.js';
import type { CacheMode, Status } from '../worker/contract/status.js';

/** How the user named the server: the modes of the command line. */
export type ServerMode =
  | { readonly kind: 'uri'; readonly uri: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number | string }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'vsock'; readonly cid: number; readonly port: number }
  | { readonly kind: 'fd'; readonly fd: number }
  | { readonly kind: 'command'; readonly argv: readonly string[] }
  | {
      readonly kind: 'socket-activation';
      readonly argv: readonly string[];
      /** The current directory of the server; undefined: ours. */
      readonly directory?: string | undefined;
      /** The server as the user named it, for the status; undefined: by its words. */
      readonly name?: string;
      /** The same server, which runs already. */
      readonly started?: StartedServer | undefined;
    };

/** Where --metrics listens. */
export type MetricsAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export type FuseBackend = 'kernel' | 'fuse-native';

/** The user's settings of one mount. */
export interface Settings {
  /** MOUNTPOINT[/FILENAME] as typed. */
  readonly mountpoint: string;
  readonly server: ServerMode;
  /** Show every export of the server as a file of the directory MOUNTPOINT. */
  readonly all: boolean;
  /** Show the disk and each of its partitions as files of a directory. */
  readonly partitions: boolean;
  /** Export to ask for in the modes without a URI; undefined: the server's default export. */
  readonly exportName: string | undefined;
  /** Connections to open where the server and the mode allow several: 1 to 1024. */
  readonly connections: number;
  /** Arguments of `-o`, each a list with commas. */
  readonly fuseOptions: readonly string[];
  readonly pidfile: string | undefined;
  /** Undefined: nowhere. */
  readonly metrics: MetricsAddress | undefined;
  readonly readOnly: boolean;
  /** Threads that serve the file: 1 to 64. */
  readonly threads: number;
  readonly verbose: boolean;
  readonly logFormat: LogFormat;
  /** A file for the messages. */
  readonly logFile: string | undefined;
  readonly backend: FuseBackend;
  readonly cache: CacheMode;
  /** Milliseconds that requests wait for a lost server before they fail; Infinity: forever. */
  readonly reconnectMs: number;
  /** Whether to restart a child server when it is lost. */
  readonly restart: boolean;
  /** Milliseconds without progress after which a connection counts as lost; 0: never. */
  readonly timeoutMs: number;
  /** Milliseconds after which requests of a lost connection are executed or dropped; Infinity: only proof counts. */
  readonly settleMs: number;
}

/** Takes messages. Texts have neither the program's name nor a newline. */
export interface Report {
  /** A line for the user: a problem, or (`info`) its end. */
  line(text: string, level?: 'warning' | 'info'): void;
  /** A line for `--verbose`. */
  detail(text: string): void;
  /** The line of an error; with `--verbose` also its stack. */
  error(error: unknown): void;
  /** The standard error of a server that we started, as it arrives. */
  serverSaid(chunk: Buffer): void;
  /** The status of the file at `path`, on request. */
  status(path: string, status: Status): void;
}
