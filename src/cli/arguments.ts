// The command line, understood: words in, a typed request out. Pure.
//
// Called by main.ts. Options end at the first word that is none (MOUNTPOINT) or at `--`; what follows
// MOUNTPOINT names the server and is never searched for options.

import { Command, CommanderError } from 'commander';
import { printable } from '../nbd/text.js';
import type { CacheMode, FuseBackend, Settings } from '../session/settings.js';
import { UsageError } from './errors.js';
import { OPTIONS } from './options.js';
import { isModeWord, parseServerMode } from './server-mode.js';

/** What the command line asks for. */
export type Request =
  | { readonly kind: 'help' | 'version' | 'fuse-help' | 'long-options' | 'short-options' }
  | { readonly kind: 'mount'; readonly settings: Settings };

/** The values that commander collects, under the names that it makes of the options. */
interface OptionValues {
  readonly connections: number;
  readonly o: readonly string[];
  readonly pidfile?: string;
  readonly readonly?: true;
  readonly s?: true;
  readonly verbose?: true;
  readonly export?: string;
  readonly cache: CacheMode;
  readonly reconnect: number;
  readonly restart?: true;
  readonly timeout: number;
  readonly fuseBackend: FuseBackend;
  readonly fuseHelp?: true;
  readonly help?: true;
  readonly longOptions?: true;
  readonly shortOptions?: true;
  readonly version?: true;
}

/** commander's complaint as one of ours, without its `error: `. */
function usageErrorFrom(error: unknown): unknown {
  if (!(error instanceof CommanderError)) return error;
  return new UsageError(`${printable(error.message.replace(/^error: /, ''))}; see nbdfuse --help`);
}

function parseOptions(words: readonly string[]): { values: OptionValues; operands: readonly string[] } {
  const command = new Command('nbdfuse')
    .helpOption(false)
    .argument('[words...]')
    .passThroughOptions()
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  for (const option of OPTIONS) command.addOption(option);
  try {
    command.parse(words, { from: 'user' });
  } catch (error) {
    throw usageErrorFrom(error);
  }
  return { values: command.opts<OptionValues>(), operands: command.args };
}

function informationWanted(values: OptionValues): Exclude<Request['kind'], 'mount'> | undefined {
  if (values.help) return 'help';
  if (values.fuseHelp) return 'fuse-help';
  if (values.longOptions) return 'long-options';
  if (values.shortOptions) return 'short-options';
  if (values.version) return 'version';
  return undefined;
}

function settingsFrom(values: OptionValues, operands: readonly string[]): Settings {
  const [mountpoint, ...words] = operands;
  if (mountpoint === undefined) {
    throw new UsageError('no MOUNTPOINT given: nbdfuse MOUNTPOINT[/FILENAME] URI; see nbdfuse --help');
  }
  const server = parseServerMode(words);
  if (server.kind === 'uri' && values.export !== undefined) {
    throw new UsageError('--export cannot be used with a URI: write the name into the URI, nbd://HOST/NAME');
  }
  return {
    mountpoint,
    server,
    exportName: values.export,
    connections: values.connections,
    fuseOptions: values.o,
    pidfile: values.pidfile,
    readOnly: values.readonly ?? false,
    singleThread: values.s ?? false,
    verbose: values.verbose ?? false,
    backend: values.fuseBackend,
    cache: values.cache,
    reconnectMs: values.reconnect,
    restart: values.restart ?? false,
    timeoutMs: values.timeout,
  };
}

/**
 * What `words` (the command line without the program) ask for.
 * @throws UsageError when they cannot be understood
 */
export function parseArguments(words: readonly string[]): Request {
  const [first = ''] = words;
  if (isModeWord(first)) {
    throw new UsageError(`${first} comes after MOUNTPOINT: nbdfuse MOUNTPOINT ${first} ...`);
  }
  const { values, operands } = parseOptions(words);
  const kind = informationWanted(values);
  return kind === undefined ? { kind: 'mount', settings: settingsFrom(values, operands) } : { kind };
}
