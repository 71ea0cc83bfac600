// A rule that the chunk server has broken. Ends the history that shows it.

export type Rule =
  | 'wrong bytes'
  | 'stale read'
  | 'stale cache'
  | 'lost bytes'
  | 'mixed disks'
  | 'unexpected error'
  | 'no answer'
  | 'no end'
  | 'memory'
  | 'prefetch first'
  | 'crash';

/** See the file's head. */
export class Violation extends Error {
  override name = 'Violation';
  readonly rule: Rule;

  constructor(rule: Rule, text: string) {
    super(text);
    this.rule = rule;
  }
}
