// Splits a command line into its options and the rest. Pure.
//
// commander takes the word after an option with an optional value as its value. nbdfuse accepts such a value only
// after `=`, as getopt_long(3) does, so that MOUNTPOINT is never taken for a value.

import { type NamedOption, optionOf, takesValue } from './options.js';

/** An option as the user typed it. */
export interface OptionWords {
  /** Undefined for an unknown option, and for several short options in one word. */
  readonly option: NamedOption | undefined;
  /** The option, and its value if that is a word of its own. */
  readonly words: readonly string[];
}

/** The option of a word that begins with a dash, and whether the next word is its value. */
function understand(word: string): { option: NamedOption | undefined; takesNext: boolean } {
  if (word.startsWith('--')) {
    const [name] = word.split('=', 1);
    const option = optionOf(name);
    return { option, takesNext: option?.required === true && name === word };
  }
  for (let i = 1; i < word.length; i++) {
    const option = optionOf(`-${word[i]}`);
    if (option === undefined) break;
    if (option.required) return { option: i === 1 ? option : undefined, takesNext: i === word.length - 1 };
  }
  return { option: word.length === 2 ? optionOf(word) : undefined, takesNext: false };
}

/** The name of the option that a word after the options is, though options come first; undefined for any other word. */
export function misplacedOption(word: string): string | undefined {
  if (!/^--?[a-z]/i.test(word)) return undefined;
  const [name] = word.startsWith('--') ? word.split('=', 1) : [word.slice(0, 2)];
  return optionOf(name) === undefined ? undefined : word.startsWith('--') ? name : word;
}

/** The name of an option that takes no value and has one, as in `--readonly=1` or `-r=1`; undefined for any other word. */
export function flagWithValue(word: string): string | undefined {
  const [, long, letter] = /^(?:(--[^=]+)|-\w*(\w))=/.exec(word) ?? [];
  const option =
    long !== undefined ? optionOf(long) : letter === undefined ? undefined : optionOf(`-${letter}`);
  if (option === undefined || takesValue(option)) return undefined;
  return long === undefined ? `-${letter}` : option.names.includes(long) ? long : (option.long ?? long);
}

/** Splits a command line into its options and the rest, which begins with `--` or with the first other word. */
export function splitOptions(words: readonly string[]): { options: OptionWords[]; rest: readonly string[] } {
  const options: OptionWords[] = [];
  let at = 0;
  while (at < words.length && /^-./.test(words[at]) && words[at] !== '--') {
    const { option, takesNext } = understand(words[at]);
    const length = takesNext ? 2 : 1;
    options.push({ option, words: words.slice(at, at + length) });
    at += length;
  }
  return { options, rest: words.slice(at) };
}

/** The same words, with `=` after each option whose optional value is missing. */
export function attachOptionalValues(words: readonly string[]): string[] {
  const { options, rest } = splitOptions(words);
  const attached = options.map(({ option, words: own }) =>
    option?.optional === true && !own[0].includes('=') ? [`${own[0]}=`] : own,
  );
  return [...attached.flat(), ...rest];
}
