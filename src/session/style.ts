// Emphasis for a person at a terminal; nothing anywhere else. Pure.
//
// Used by what --status, --watch and --list print. See https://no-color.org for NO_COLOR.

/** Each makes a text stand out in its way, or leaves it as it is. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
}

const same = (text: string): string => text;

/** Leaves every text as it is. */
export const PLAIN: Style = { bold: same, dim: same, good: same, bad: same };

/** What SGR (ECMA-48) calls `on` before a text and `off` after it. */
function sgr(on: number, off: number): (text: string) => string {
  return (text) => (text === '' ? '' : `\x1b[${on}m${text}\x1b[${off}m`);
}

const COLOURS: Style = { bold: sgr(1, 22), dim: sgr(2, 22), good: sgr(32, 39), bad: sgr(31, 39) };

/** How to write to a stream: with emphasis to a terminal that can, unless NO_COLOR says no. */
export function styleFor({ isTTY }: { readonly isTTY?: boolean }, environment: NodeJS.ProcessEnv): Style {
  const { NO_COLOR: no = '', TERM: terminal } = environment;
  return isTTY === true && no === '' && terminal !== 'dumb' ? COLOURS : PLAIN;
}
