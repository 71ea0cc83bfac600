// The place of a mount: the descriptor of a directory, and a name in it.
//
// A path can lead elsewhere at each use, when somebody renames a directory, swaps in a symbolic link, or mounts over
// it. A descriptor of the mountpoint itself would keep a mount busy; one of its parent directory does not, and the
// kernel resolves the name to the topmost mount there. The number of that mount shows whether it is the right one.

import { basename, dirname } from 'node:path';
import { mountIdOf, openPath, pathThrough, using } from '../linux/path.js';
import { closeDescriptor } from '../linux/socket.js';

/** See the file's head. The caller that makes one closes it. */
export class Place {
  readonly directory: number;
  readonly name: string;

  private constructor(directory: number, name: string) {
    this.directory = directory;
    this.name = name;
  }

  /** The place of an absolute path without symbolic links. @throws NodeJS.ErrnoException */
  static async of(path: string): Promise<Place> {
    return new Place(await openPath(dirname(path), { follow: false }), basename(path));
  }

  /** A path for system calls. */
  get path(): string {
    return pathThrough(this.directory, this.name);
  }

  /** An O_PATH descriptor of the topmost mount's root, or else of the file itself. @throws NodeJS.ErrnoException */
  open(): Promise<number> {
    return openPath(this.path, { follow: false });
  }

  /** The number of the mount that is visible here; undefined when nothing is. */
  async mountId(): Promise<number | undefined> {
    const descriptor = await this.open().catch(() => undefined);
    return descriptor === undefined ? undefined : using(descriptor, () => mountIdOf(descriptor));
  }

  close(): void {
    closeDescriptor(this.directory);
  }
}

/** Does `act` at the place of `path`, and closes it. @throws NodeJS.ErrnoException */
export async function atPlace<T>(path: string, act: (place: Place) => Promise<T>): Promise<T> {
  const place = await Place.of(path);
  try {
    return await act(place);
  } finally {
    place.close();
  }
}
