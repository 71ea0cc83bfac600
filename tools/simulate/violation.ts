// A rule that the worker has broken, as the checker reports it. Ends the history that shows it.

/** The rules, by short names that a shrunk history must break, too. */
export type Rule =
  | 'stale read'
  | 'older bytes sent'
  | 'false alarm'
  | 'stale disk'
  | 'lost after fsync'
  | 'other disk'
  | 'payload changed'
  | 'replies'
  | 'no reply'
  | 'left over'
  | 'silent loss'
  | 'late stop'
  | 'hole over data'
  | 'crash';

/** See the file's head. */
export class Violation extends Error {
  override name = 'Violation';
  readonly rule: Rule;
  /** The rule and the kind of its violation: usually the same for the same defect. */
  readonly sign: string;

  constructor(rule: Rule, text: string, kind = '') {
    super(text);
    this.rule = rule;
    this.sign = `${rule} ${kind}`;
  }
}
