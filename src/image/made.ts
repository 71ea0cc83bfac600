// The files and directories that a preparation makes, and that go again when it fails.

type Removal = () => Promise<unknown>;

export class Made {
  readonly #removals: Removal[] = [];

  add(remove: Removal): void {
    this.#removals.push(remove);
  }

  /** The same files, which somebody else will make again. */
  copy(): Made {
    const copy = new Made();
    for (const remove of this.#removals) copy.add(remove);
    return copy;
  }

  /** Removes them, the last one first. Failures leave only the files that they are about. */
  async remove(): Promise<void> {
    for (const remove of this.#removals.splice(0).reverse()) await remove().catch(() => undefined);
  }
}
