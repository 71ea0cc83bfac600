// The files of a server's exports, and how a new list changes them. Pure.
//
// Owned by the ExportDirectoryKeeper. A file keeps its number as long as it is the same: the same export with the same
// size, flags and block sizes. Numbers are never reused.

import type { ExportInfo, ListedExport } from '../../nbd/export-info.js';
import { printable } from '../../nbd/text.js';
import { fileNames } from './file-names.js';

/** One export with its file. */
export interface ExportFile {
  readonly number: number;
  /** The file's name. */
  readonly name: string;
  readonly exportName: string;
  /** Undefined: not known yet. */
  readonly info: ExportInfo | undefined;
}

/** The changes that a new list brings. */
export interface ExportChange {
  readonly added: readonly ExportFile[];
  readonly removed: readonly number[];
}

/** The properties of an export that define its file. */
const shapeOf = ({ size, flags, blockSizes }: ExportInfo): string =>
  JSON.stringify([String(size), flags, blockSizes ?? null]);

/** Whether a file can continue with its export as another handshake describes it. */
export function sameShape(one: ExportInfo | undefined, other: ExportInfo): boolean {
  return one === undefined || shapeOf(one) === shapeOf(other);
}

/** See the file's head. */
export class ExportList {
  readonly #byName = new Map<string, ExportFile>();
  readonly #byNumber = new Map<number, ExportFile>();
  #next = 0;

  /** All files; those of the first list come first, in its order. */
  files(): readonly ExportFile[] {
    return [...this.#byName.values()];
  }

  /** A file that is in the list. */
  file(number: number): ExportFile | undefined {
    return this.#byNumber.get(number);
  }

  /** Takes a server's list. `leftOut` are exports without a free file name, made printable. */
  update(exports: readonly ListedExport[]): ExportChange & { readonly leftOut: readonly string[] } {
    const names = fileNames(exports.map(({ name }) => name));
    const listed = new Map(exports.map((one) => [one.name, one]));
    const files = new Set(names.values());
    const removed = [...this.#byName.values()].filter(({ name }) => !files.has(name));
    const added: ExportFile[] = [];
    for (const [exportName, name] of names) {
      // nbd-server lists a size of 0, and gives the true one to clients that connect.
      const listedInfo = listed.get(exportName)?.info;
      const info = listedInfo?.size === 0n ? undefined : listedInfo;
      const present = this.#byName.get(name);
      if (present?.exportName === exportName && (info === undefined || sameShape(present.info, info))) {
        if (info === undefined || present.info !== undefined) continue;
      }
      if (present !== undefined) removed.push(present);
      added.push({ number: this.#next++, name, exportName, info });
    }
    const change = this.#apply(removed, added);
    const leftOut = [...listed.keys()].filter((name) => !names.has(name)).map((name) => printable(name, 100));
    return { ...change, leftOut };
  }

  /** Records the info of a file that has not changed. */
  learn(number: number, info: ExportInfo): void {
    const file = this.#byNumber.get(number);
    if (file !== undefined) this.#set({ ...file, info });
  }

  /** The export has changed: a new file replaces the old one. */
  replace(number: number, info: ExportInfo): ExportChange {
    const file = this.#byNumber.get(number);
    if (file === undefined) return { added: [], removed: [] };
    return this.#apply([file], [{ ...file, number: this.#next++, info }]);
  }

  /** The export is gone. */
  remove(number: number): ExportChange {
    const file = this.#byNumber.get(number);
    return file === undefined ? { added: [], removed: [] } : this.#apply([file], []);
  }

  #apply(removed: readonly ExportFile[], added: readonly ExportFile[]): ExportChange {
    for (const { name, number } of removed) {
      this.#byName.delete(name);
      this.#byNumber.delete(number);
    }
    for (const file of added) this.#set(file);
    return { added, removed: removed.map(({ number }) => number) };
  }

  #set(file: ExportFile): void {
    this.#byName.set(file.name, file);
    this.#byNumber.set(file.number, file);
  }
}
