// Emphasis on a terminal, and none elsewhere. Pure.
//
// Used for the output of --status, --watch and --list. See https://no-color.org for NO_COLOR.

/** Each method emphasizes a text, or returns it unchanged. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
}

const same = (text: string): string => text;

/** Leaves every text as it is. */
export const PLAIN: Style = { bold: same, dim: same, good: same, bad: same };

/** Puts the SGR codes (ECMA-48) `on` before a text and `off` after it. */
function sgr(on: number, off: number): (text: string) => string {
  return (text) => (text === '' ? '' : `\x1b[${on}m${text}\x1b[${off}m`);
}

const COLOURS: Style = { bold: sgr(1, 22), dim: sgr(2, 22), good: sgr(32, 39), bad: sgr(31, 39) };

/** The style for a stream: emphasis on a capable terminal, unless NO_COLOR is set. */
export function styleFor({ isTTY }: { readonly isTTY?: boolean }, environment: NodeJS.ProcessEnv): Style {
  const { NO_COLOR: no = '', TERM: terminal } = environment;
  return isTTY === true && no === '' && terminal !== 'dumb' ? COLOURS : PLAIN;
}
