// The files that the cases of lazy images serve: made once in a run, or kept in a folder for later runs.

import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { basename } from 'node:path';
import { runWithin } from '../../../test/support/run/program.js';
import type { Scope } from '../../../test/support/run/scope.js';
import { writeImage } from './data.js';

const MIB = 2 ** 20;

/** Seconds that compression of 1 GiB may take on a busy machine. */
const PATIENCE_SECONDS = 900;

/** Compresses as `xz -T2` does by default with a dictionary of 1 MiB, but in blocks of 16 MiB. */
export const XZ = 'xz -T2 -1 --block-size=16MiB';

/** A folder whose files are made when a case needs them. */
export class ImageFolder {
  readonly folder: string;
  readonly #scope: Scope;

  /** @param folder where files are looked for and kept; undefined: in the scope */
  constructor(scope: Scope, folder: string | undefined) {
    this.#scope = scope;
    this.folder = folder ?? scope.path('images');
    mkdirSync(this.folder, { recursive: true });
  }

  /** The path of a file; `make` writes it, whole or not at all, if it is not there. */
  async file(name: string, make: (path: string) => unknown): Promise<string> {
    const path = `${this.folder}/${name}`;
    if (existsSync(path)) return path;
    console.error(`bench: making ${name}`);
    await make(`${path}.part`);
    renameSync(`${path}.part`, path);
    return path;
  }

  /** A raw image of so many MiB, with a GPT, as disks have one. */
  raw(mebibytes: number): Promise<string> {
    return this.file(`disk-${mebibytes}.raw`, async (path) => {
      writeImage(path, mebibytes * MIB);
      const line = 'printf "label: gpt\\n,\\n" | sfdisk --quiet "$1"';
      await runWithin(this.#scope, PATIENCE_SECONDS, ['sh', '-c', line, 'sh', path]);
    });
  }

  /** The name of a file compressed by a command that writes to its standard output, directly in this folder. */
  async compressed(raw: string, suffix: string, command: string): Promise<string> {
    const name = `${basename(raw)}.${suffix}`;
    await this.file(name, (part) =>
      runWithin(this.#scope, PATIENCE_SECONDS, ['sh', '-c', `${command} -c "$1" >"$2"`, 'sh', raw, part]),
    );
    return name;
  }
}
