// Parses the words after MOUNTPOINT or --list, which name the server. Pure.
//
// Called by arguments.ts. Everything after CMD belongs to CMD, whatever it looks like; the other modes
// take a fixed number of words and refuse more.

import { printable } from '../../nbd/text.js';
import { MAX_TCP_PORT } from '../../nbd/uri/uri-authority.js';
import type { ServerMode } from '../../session/settings.js';
import { UsageError } from '../errors.js';
import { misplacedOption } from './option-words.js';
import { wholeNumber } from './values.js';

/** Largest 32-bit number, the limit of a vsock address. */
const MAXIMUM_U32 = 0xffff_ffff;
const MAXIMUM_DESCRIPTOR = 0x7fff_ffff;

/** The operands, when there are exactly as many as `names` and none is empty. */
function operandsOf(mode: string, names: readonly string[], words: readonly string[]): readonly string[] {
  if (words.length < names.length) throw new UsageError(`${mode} needs ${names.join(' ')}`);
  const empty = names.find((_, i) => words[i] === '');
  if (empty === 'URI') throw new UsageError('URI is empty: name an image or an NBD server');
  if (empty !== undefined) throw new UsageError(`${mode} ${names.join(' ')}: ${empty} is empty`);
  if (words.length > names.length) {
    refuseOption(words[names.length]);
    const extra = printable(words[names.length] ?? '');
    throw new UsageError(`unexpected argument ${extra}: ${mode} takes only ${names.join(' ')}`);
  }
  return words;
}

/** @throws UsageError for an option of nbdfuse behind MOUNTPOINT or the server */
export function refuseOption(word: string | undefined): void {
  const option = word === undefined ? undefined : misplacedOption(word);
  if (option === undefined) return;
  throw new UsageError(`options come first: put ${printable(option)} before MOUNTPOINT`);
}

function commandOf(mode: string, words: readonly string[]): readonly string[] {
  if (words.length === 0 || words[0] === '') throw new UsageError(`${mode} needs CMD [ARGS ...]`);
  return words;
}

/** A port number, or the name of a service. */
function portOf(text: string): number | string {
  return /^\d+$/.test(text) ? wholeNumber('--tcp PORT', text, 1, MAX_TCP_PORT) : text;
}

function parseUri(mode: string, words: readonly string[]): ServerMode {
  const [uri = ''] = operandsOf(mode, ['URI'], words);
  return { kind: 'uri', uri };
}

function parseCommand(mode: string, words: readonly string[]): ServerMode {
  return { kind: 'command', argv: commandOf(mode, words) };
}

function parseSocketActivation(mode: string, words: readonly string[]): ServerMode {
  return { kind: 'socket-activation', argv: commandOf(mode, words) };
}

function parseSquareBracket(mode: string, words: readonly string[]): ServerMode {
  const end = words.lastIndexOf(']');
  if (end >= 0 && end < words.length - 1) refuseOption(words[end + 1]);
  if (words.at(-1) !== ']') throw new UsageError('[ CMD [ARGS ...] ] needs ] as the last argument');
  return { kind: 'socket-activation', argv: commandOf(mode, words.slice(0, -1)) };
}

function parseFd(mode: string, words: readonly string[]): ServerMode {
  const [fd = ''] = operandsOf(mode, ['N'], words);
  return { kind: 'fd', fd: wholeNumber('--fd', fd, 0, MAXIMUM_DESCRIPTOR) };
}

function parseTcp(mode: string, words: readonly string[]): ServerMode {
  const [, name, number] = /^(\[.*\]|[^:]*):(\d+)$/.exec(words[0] ?? '') ?? [];
  if (words.length === 1 && name !== undefined)
    throw new UsageError(`--tcp needs HOST PORT, two arguments: --tcp ${printable(name)} ${number}`);
  const [host = '', port = ''] = operandsOf(mode, ['HOST', 'PORT'], words);
  // In a URI an IPv6 address needs brackets; here it may have them.
  return { kind: 'tcp', host: host.replace(/^\[(.*:.*)\]$/, '$1'), port: portOf(port) };
}

function parseUnix(mode: string, words: readonly string[]): ServerMode {
  const [path = ''] = operandsOf(mode, ['SOCKET'], words);
  return { kind: 'unix', path };
}

function parseVsock(mode: string, words: readonly string[]): ServerMode {
  const [cid = '', port = ''] = operandsOf(mode, ['CID', 'PORT'], words);
  return {
    kind: 'vsock',
    cid: wholeNumber('--vsock CID', cid, 0, MAXIMUM_U32),
    port: wholeNumber('--vsock PORT', port, 0, MAXIMUM_U32),
  };
}

type ModeParser = (mode: string, words: readonly string[]) => ServerMode;

const MODES: ReadonlyMap<string, ModeParser> = new Map<string, ModeParser>([
  ['[', parseSquareBracket],
  ['--command', parseCommand],
  ['--cmd', parseCommand],
  ['--socket-activation', parseSocketActivation],
  ['--systemd-socket-activation', parseSocketActivation],
  ['--fd', parseFd],
  ['--tcp', parseTcp],
  ['--unix', parseUnix],
  ['--vsock', parseVsock],
  ['--uri', parseUri],
]);

/** The words that select a mode. */
export const MODE_WORDS: readonly string[] = [...MODES.keys()];

/** Whether a word selects a mode; those belong after MOUNTPOINT or --list. */
export function isModeWord(word: string): boolean {
  return MODES.has(word);
}

/**
 * The server that the words after MOUNTPOINT name.
 * @throws UsageError when a word is missing, superfluous or not understood
 */
export function parseServerMode(words: readonly string[]): ServerMode {
  const [first, ...rest] = words;
  if (first === undefined) {
    throw new UsageError(
      'no server given after MOUNTPOINT: name a URI, [ CMD ARGS ] or another mode; see --help',
    );
  }
  const parse = MODES.get(first);
  if (parse !== undefined) return parse(first, rest);
  if (first.startsWith('-')) {
    if (rest.length > 0) refuseOption(first);
    const file = rest.length > 0 ? '' : `; for a file of this name, write ./${printable(first)}`;
    const next = 'options come before MOUNTPOINT, and --help lists the modes';
    throw new UsageError(`unknown mode ${printable(first)}: ${next}${file}`);
  }
  return parseUri('URI', words);
}
