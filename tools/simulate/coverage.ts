// Counts each kind of event and each interesting state.

/** See the file's head. */
export class Coverage {
  readonly counts = new Map<string, number>();

  count(name: string, by = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + by);
  }

  add(other: Coverage): void {
    for (const [name, count] of other.counts) this.count(name, count);
  }

  /** One line each, the most frequent first. */
  lines(): string[] {
    return [...this.counts]
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => `${String(count).padStart(12)}  ${name}`);
  }
}
