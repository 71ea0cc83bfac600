// Owner, permission bits and times of the files, from -o and from the user who mounts.

import type { TreeOptions } from '../../fuse/tree.js';
import type { FuseOptions } from '../../mount/options.js';

/** See the file's head. */
export function treeOptions(options: FuseOptions): TreeOptions {
  return {
    uid: options.uid ?? process.getuid?.() ?? 0,
    gid: options.gid ?? process.getgid?.() ?? 0,
    umask: options.umask ?? process.umask(),
    now: Date.now(),
  };
}
