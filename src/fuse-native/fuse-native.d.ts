// The types of fuse-native that the adapter uses; the package has none.

declare module 'fuse-native' {
  /** The attributes of a file; sizes and blocks are doubles. */
  export interface Stat {
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
    readonly size: number;
    readonly nlink: number;
    readonly ino: number;
    readonly blksize: number;
    readonly blocks: number;
    readonly atime: Date;
    readonly mtime: Date;
    readonly ctime: Date;
  }

  /** Called with 0 or a negative errno, and a result. */
  export type Callback<T = void> = (error: number, result?: T) => void;

  export interface Operations {
    readonly getattr: (path: string, done: Callback<Stat>) => void;
    readonly fgetattr: (path: string, handle: number, done: Callback<Stat>) => void;
    readonly readdir: (path: string, done: Callback<string[]>) => void;
    readonly access: (path: string, mask: number, done: Callback) => void;
    readonly open: (path: string, flags: number, done: Callback<number>) => void;
    readonly release: (path: string, handle: number, done: Callback) => void;
    readonly read: (
      path: string,
      handle: number,
      into: Buffer,
      length: number,
      at: number,
      done: Callback<number>,
    ) => void;
    readonly write: (
      path: string,
      handle: number,
      from: Buffer,
      length: number,
      at: number,
      done: Callback<number>,
    ) => void;
    readonly flush: (path: string, handle: number, done: Callback) => void;
    readonly fsync: (path: string, dataOnly: number, handle: number, done: Callback) => void;
    readonly truncate: (path: string, size: number, done: Callback) => void;
    readonly ftruncate: (path: string, handle: number, size: number, done: Callback) => void;
    readonly utimens: (path: string, atime: Date | number, mtime: Date | number, done: Callback) => void;
    readonly chmod: (path: string, mode: number, done: Callback) => void;
    readonly chown: (path: string, uid: number, gid: number, done: Callback) => void;
    readonly statfs: (path: string, done: Callback<Record<string, number>>) => void;
  }

  export interface MountOptions {
    readonly timeout: false;
    readonly debug?: boolean;
    readonly allowOther?: boolean;
    readonly allowRoot?: boolean;
    readonly autoUnmount?: boolean;
    readonly defaultPermissions?: boolean;
    readonly maxRead?: number;
    readonly fsname?: string;
    readonly subtype?: string;
    readonly kernelCache?: boolean;
    readonly autoCache?: boolean;
  }

  export default class Fuse {
    constructor(mountpoint: string, operations: Operations, options: MountOptions);
    mount(done: (error: Error | null) => void): void;
  }
}
