// Whether `st_blocks` of a disk is still true: which changes were made since its allocated bytes were counted.
//
// Owned by a Disk; `request/block-count` counts. Pure.

/** See the file's head. */
export class Allocation {
  readonly #lifetime: number;
  #changes = 0;
  #countedChanges = -1;
  #hasBegun = false;
  #countedAt = 0;

  /** @param lifetime milliseconds for which a count is true without a change of our own: others may change the disk */
  constructor(lifetime: number) {
    this.#lifetime = lifetime;
  }

  /** Records a change that is sent or answered: the server may allocate at any time between. */
  changed(): void {
    this.#changes++;
  }

  /** A number that grows with each change. */
  get changes(): number {
    return this.#changes;
  }

  /** Whether a count has ended, maybe before the end of the disk. */
  get isCounted(): boolean {
    return this.#hasBegun;
  }

  /** Records the end of a count that has not reached the end of the disk: the next stat(2) lets the rest be counted. */
  countedPart(): void {
    this.#hasBegun = true;
  }

  /** Records the end of a count. @param changes as they were at its start @param now milliseconds */
  counted(changes: number, now: number): void {
    this.#hasBegun = true;
    this.#countedChanges = changes;
    this.#countedAt = now;
  }

  /** Lets an old count count no longer: another client may have changed the disk. @param now milliseconds */
  expire(now: number): void {
    if (now - this.#countedAt >= this.#lifetime) this.#changes++;
  }

  /** Whether the last count is true. @param now milliseconds */
  isTrue(now: number): boolean {
    return this.includes(this.#changes) && now - this.#countedAt < this.#lifetime;
  }

  /** Whether the last count began after a change. @param change `changes` as it was after it */
  includes(change: number): boolean {
    return this.#countedChanges >= change;
  }
}
