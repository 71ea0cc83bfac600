// The command line, understood: words in, a typed request out. Pure.
//
// Called by main.ts. Options end at the first word that is none (MOUNTPOINT) or at `--`; what follows
// MOUNTPOINT names the server and is never searched for options. With --list there is no MOUNTPOINT: the
// word that ends the options begins the server.

import { Command, CommanderError } from 'commander';
import type { ImageRequest } from '../../image/prepare.js';
import type { LogFormat } from '../../linux/log-line.js';
import { printable } from '../../nbd/text.js';
import type { FuseBackend, ServerMode, Settings } from '../../session/settings.js';
import type { CacheMode } from '../../worker/contract/status.js';
import { UsageError } from '../errors.js';
import { type ImageValues, imageFrom } from './image.js';
import { attachOptionalValues } from './option-words.js';
import { OPTIONS } from './options.js';
import { isModeWord, parseServerMode } from './server-mode.js';

/** What the command line asks for. */
export type Request =
  | { readonly kind: Question }
  | { readonly kind: 'list'; readonly listing: Listing }
  | { readonly kind: 'status' | 'watch'; readonly inspection: Inspection }
  | { readonly kind: 'unmount'; readonly mountpoint: string }
  | { readonly kind: 'completion'; readonly shell: Shell }
  /** `daemon`: in the background. */
  | { readonly kind: 'mount'; readonly settings: Settings; readonly daemon: boolean }
  | {
      readonly kind: 'image';
      readonly image: ImageRequest;
      readonly settings: MountSettings;
      readonly daemon: boolean;
    }
  | { readonly kind: 'print-command'; readonly image: ImageRequest };

/** Settings of a mount whose server is found out later. */
export type MountSettings = Omit<Settings, 'server'>;

/** The requests that need no server. */
export type Question = 'help' | 'version' | 'fuse-help' | 'long-options' | 'short-options';

/** The shells that a completion can be had for. */
export type Shell = 'bash' | 'zsh' | 'fish';

/** Which mount is to be looked at, and how it is to be shown. */
export interface Inspection {
  /** As typed: DIR, DIR/FILENAME or a file. */
  readonly mountpoint: string;
  readonly json: boolean;
}

/** Whose exports are to be shown, and how. */
export interface Listing {
  readonly server: ServerMode;
  readonly json: boolean;
  readonly verbose: boolean;
  readonly logFormat: LogFormat;
}

/** Options that mean something together with --list, as commander calls them. */
const LIST_OPTIONS = ['list', 'json', 'verbose', 'logFormat'];

/** The same of --status and --unmount. */
const STATUS_OPTIONS = ['status', 'watch', 'json', 'logFormat'];
const UNMOUNT_OPTIONS = ['unmount', 'logFormat'];

/** The values that commander collects, under the names that it makes of the options. */
interface OptionValues extends ImageValues {
  readonly connections: number;
  readonly o: readonly string[];
  readonly pidfile?: string;
  readonly readonly?: true;
  readonly s?: true;
  readonly threads?: number;
  readonly verbose?: true;
  readonly logFormat: LogFormat;
  readonly export?: string;
  readonly all?: true;
  readonly cache: CacheMode;
  readonly daemon?: true;
  readonly foreground?: true;
  readonly completion?: Shell;
  readonly reconnect: number;
  readonly restart?: true;
  readonly timeout: number;
  readonly settleTime: number;
  readonly fuseBackend: FuseBackend;
  readonly fuseHelp?: true;
  readonly help?: true;
  readonly json?: true;
  readonly list?: true;
  readonly status?: true;
  readonly unmount?: true;
  readonly watch?: true;
  readonly longOptions?: true;
  readonly shortOptions?: true;
  readonly version?: true;
}

/** commander's complaint as one of ours, without its `error: `. */
function usageErrorFrom(error: unknown): unknown {
  if (!(error instanceof CommanderError)) return error;
  return new UsageError(`${printable(error.message.replace(/^error: /, ''))}; see nbdfuse --help`);
}

/** A command line in its parts. */
interface Words {
  readonly values: OptionValues;
  /** Names of the values that the user gave. */
  readonly given: readonly string[];
  /** What follows the options. */
  readonly operands: readonly string[];
  /** The same, when it begins like an option that is none. */
  readonly unknown: readonly string[];
}

function parseOptions(words: readonly string[]): Words {
  const command = new Command('nbdfuse')
    .helpOption(false)
    .passThroughOptions()
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  for (const option of OPTIONS) command.addOption(option);
  try {
    const { operands, unknown } = command.parseOptions(attachOptionalValues(words));
    const values = command.opts<OptionValues>();
    const given = Object.keys(values).filter((name) => command.getOptionValueSource(name) === 'cli');
    return { values, given, operands, unknown };
  } catch (error) {
    throw usageErrorFrom(error);
  }
}

function informationWanted(values: OptionValues): Question | undefined {
  if (values.help) return 'help';
  if (values.fuseHelp) return 'fuse-help';
  if (values.longOptions) return 'long-options';
  if (values.shortOptions) return 'short-options';
  if (values.version) return 'version';
  return undefined;
}

/** @throws UsageError when an option was given that means nothing together with `main` */
function allowOnly(main: string, allowed: readonly string[], given: readonly string[]): void {
  const odd = given.find((name) => !allowed.includes(name));
  if (odd === undefined) return;
  const name = OPTIONS.find((option) => option.attributeName() === odd)?.names.at(-1);
  throw new UsageError(`${name} cannot be used with ${main}, which mounts nothing`);
}

/** The one word that --status and --unmount take. @throws UsageError */
function onlyMountpoint(main: string, { operands, unknown }: Words): string {
  const [mountpoint, ...more] = [...operands, ...unknown];
  if (mountpoint === undefined || more.length > 0)
    throw new UsageError(`${main} takes one MOUNTPOINT: nbdfuse ${main} MOUNTPOINT; see nbdfuse --help`);
  return mountpoint;
}

/** What asks for something about mounts that there are already. */
function mountedRequest(words: Words): Request | undefined {
  const { values, given } = words;
  if (values.status) {
    allowOnly('--status', STATUS_OPTIONS, given);
    const inspection = { mountpoint: onlyMountpoint('--status', words), json: values.json ?? false };
    return { kind: values.watch ? 'watch' : 'status', inspection };
  }
  if (values.watch) throw new UsageError('--watch goes with --status: nbdfuse --status --watch MOUNTPOINT');
  if (!values.unmount) return undefined;
  allowOnly('--unmount', UNMOUNT_OPTIONS, given);
  return { kind: 'unmount', mountpoint: onlyMountpoint('--unmount', words) };
}

function listingFrom({ values, given, operands, unknown }: Words): Listing {
  allowOnly('--list', LIST_OPTIONS, given);
  const words = [...operands, ...unknown];
  if (words.length === 0) {
    throw new UsageError('no server given: nbdfuse --list URI, or another mode; see nbdfuse --help');
  }
  return {
    server: parseServerMode(words),
    json: values.json ?? false,
    verbose: values.verbose ?? false,
    logFormat: values.logFormat,
  };
}

/** @throws UsageError when the server cannot have all of its exports shown */
function checkAll(server: ServerMode, exportName: string | undefined): void {
  if (server.kind === 'command' || server.kind === 'fd') {
    const next = server.kind === 'command' ? '; use [ CMD ] instead' : '';
    throw new UsageError(`--all needs a connection for each file, and --${server.kind} is only one${next}`);
  }
  if (exportName !== undefined)
    throw new UsageError('--all and --export exclude each other; see nbdfuse --help');
}

function settingsFrom(values: OptionValues, mountpoint: string): MountSettings {
  return {
    mountpoint,
    all: values.all ?? false,
    exportName: values.export,
    connections: values.connections,
    fuseOptions: values.o,
    pidfile: values.pidfile,
    readOnly: values.readonly ?? false,
    threads: values.threads ?? 1,
    verbose: values.verbose ?? false,
    logFormat: values.logFormat,
    backend: values.fuseBackend,
    cache: values.cache,
    reconnectMs: values.reconnect,
    restart: values.restart ?? false,
    timeoutMs: values.timeout,
    settleMs: values.settleTime,
  };
}

/** What mounts: a server, or an image whose server is to be chosen. */
function mountRequest({ values, given, operands }: Words): Request {
  const [mountpoint, ...words] = operands;
  if (mountpoint === undefined) {
    throw new UsageError('no MOUNTPOINT given: nbdfuse MOUNTPOINT[/FILENAME] URI; see nbdfuse --help');
  }
  if (values.s && values.threads !== undefined)
    throw new UsageError('-s and --threads exclude each other; see nbdfuse --help');
  const settings = settingsFrom(values, mountpoint);
  const daemon = values.daemon ?? false;
  const image = imageFrom(words, values, given);
  if (image !== undefined) {
    if (values.export !== undefined) throw new UsageError(`--export goes with a server, not with an image`);
    if (values.all) throw new UsageError(`--all goes with a server, not with an image`);
    return values.printCommand
      ? { kind: 'print-command', image }
      : { kind: 'image', image, settings, daemon };
  }
  const server = parseServerMode(words);
  if (server.kind === 'uri' && values.export !== undefined) {
    throw new UsageError('--export cannot be used with a URI: write the name into the URI, nbd://HOST/NAME');
  }
  if (values.all) checkAll(server, values.export);
  return { kind: 'mount', settings: { ...settings, server }, daemon };
}

/**
 * What `words` (the command line without the program) ask for.
 * @throws UsageError when they cannot be understood
 */
export function parseArguments(words: readonly string[]): Request {
  const parsed = parseOptions(words);
  const { values, operands, unknown } = parsed;
  const [first] = unknown;
  if (first !== undefined && !isModeWord(first)) {
    throw new UsageError(`unknown option '${printable(first)}'; see nbdfuse --help`);
  }
  const kind = informationWanted(values);
  if (kind !== undefined) return { kind };
  if (values.completion !== undefined) return { kind: 'completion', shell: values.completion };
  if (values.list) return { kind: 'list', listing: listingFrom(parsed) };
  const mounted = mountedRequest(parsed);
  if (mounted !== undefined) return mounted;
  if (values.json) throw new UsageError('--json goes with --list or --status: nbdfuse --list --json URI');
  const misplaced = first ?? operands[0];
  if (misplaced !== undefined && isModeWord(misplaced)) {
    throw new UsageError(`${misplaced} comes after MOUNTPOINT: nbdfuse MOUNTPOINT ${misplaced} ...`);
  }
  if (values.daemon && values.foreground)
    throw new UsageError('--daemon and --foreground exclude each other; see nbdfuse --help');
  return mountRequest(parsed);
}
