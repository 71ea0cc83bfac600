// The files and directories that a preparation makes, and that go again when it fails.

type Removal = () => Promise<unknown>;

export class Made {
  readonly #removals: Removal[] = [];

  add(remove: Removal): void {
    this.#removals.push(remove);
  }

  /**
   * Removes them, the last one first. Failures leave only the files that they are about. A second call removes those that
   * somebody has made again.
   */
  async remove(): Promise<void> {
    for (const remove of [...this.#removals].reverse()) await remove().catch(() => undefined);
  }
}
