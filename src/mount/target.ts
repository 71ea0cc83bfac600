// The directory or file to mount over, held by descriptors.
//
// Opened when MOUNTPOINT is resolved, used when the server is known, which may be much later. Meanwhile a user who may
// change a directory of the path can replace the target.

import { fstat } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { promisify } from 'node:util';
import { currentPath, mountIdOf, openPath, pathThrough, using } from '../linux/path.js';
import { closeDescriptor } from '../linux/socket.js';
import { MountError, whyFailed } from './errors.js';
import { Place } from './place.js';

const statDescriptor = promisify(fstat);

/** See the file's head. */
export class Target {
  /** O_PATH of the directory or file itself. */
  readonly descriptor: number;
  readonly place: Place;
  readonly isDirectory: boolean;
  readonly isFile: boolean;
  readonly #text: string;
  #isOpen = true;

  private constructor(
    descriptor: number,
    place: Place,
    kind: { isDirectory: boolean; isFile: boolean },
    text: string,
  ) {
    this.descriptor = descriptor;
    this.place = place;
    this.isDirectory = kind.isDirectory;
    this.isFile = kind.isFile;
    this.#text = text;
  }

  /** Opens the target of `path`, which the user typed as `text`. @throws MountError */
  static async open(path: string, text: string): Promise<Target> {
    let descriptor: number | undefined;
    try {
      descriptor = await openPath(path, { follow: true });
      const found = await statDescriptor(descriptor);
      if (found.nlink === 0)
        throw new MountError(`mountpoint ${text}: it was deleted; use another directory`);
      const place = await Place.of(currentPath(descriptor));
      const kind = { isDirectory: found.isDirectory(), isFile: found.isFile() };
      const target = new Target(descriptor, place, kind, text);
      descriptor = undefined;
      return target;
    } catch (error) {
      throw error instanceof MountError ? error : new MountError(`mountpoint ${text}: ${whyFailed(error)}`);
    } finally {
      if (descriptor !== undefined) closeDescriptor(descriptor);
    }
  }

  /** Absolute, without symbolic links. */
  get path(): string {
    return currentPath(this.descriptor);
  }

  /** Whether there are files in the directory; false if it cannot be read. */
  async hasFiles(): Promise<boolean> {
    const directory = await opendir(pathThrough(this.descriptor)).catch(() => undefined);
    if (directory === undefined) return false;
    try {
      return (await directory.read()) !== null;
    } catch {
      return false;
    } finally {
      await directory.close();
    }
  }

  /** @throws MountError when another file or mount is in its place by now */
  async check(): Promise<void> {
    if (await this.#isInPlace().catch(() => false)) return;
    throw new MountError(
      `mountpoint ${this.#text}: it was replaced or mounted over in the meantime; use a directory that only you can change`,
    );
  }

  async #isInPlace(): Promise<boolean> {
    const now = await this.place.open();
    return using(now, async () => {
      if (mountIdOf(now) !== mountIdOf(this.descriptor)) return false;
      const [one, other] = [await statDescriptor(now), await statDescriptor(this.descriptor)];
      return one.dev === other.dev && one.ino === other.ino;
    });
  }

  /** Closes it, once. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.place.close();
    closeDescriptor(this.descriptor);
  }
}
