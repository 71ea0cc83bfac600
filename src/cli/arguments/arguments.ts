// Parses the command line into a typed request. Pure.
//
// Called by main.ts. Options end at the first word that is not an option (MOUNTPOINT), or at `--`. The words after
// MOUNTPOINT name the server; the parser never looks for options there. With --list there is no MOUNTPOINT: the first
// word after the options begins the server.

import { Command, CommanderError } from 'commander';
import { type KeepRequest, wantsKept } from '../../image/keep-request.js';
import type { ImageRequest } from '../../image/prepare.js';
import type { LogFormat } from '../../linux/log-line.js';
import { printable } from '../../nbd/text.js';
import type { MetricsFormat } from '../../session/metrics/exposition.js';
import type { FuseBackend, MetricsAddress, ServerMode, Settings } from '../../session/settings.js';
import type { CacheMode } from '../../worker/contract/status.js';
import { UsageError } from '../errors.js';
import { type CacheRequest, cacheRequestFrom } from './cache-words.js';
import { refuseOtherThanUtf8 } from './exact-words.js';
import { type ImageValues, imageFrom } from './image.js';
import { keepFrom } from './keep.js';
import { METRICS_FORMATS } from './metrics-words.js';
import { attachOptionalValues, flagWithValue, misplacedOption, splitOptions } from './option-words.js';
import { OPTIONS, takesValue } from './options.js';
import { isModeWord, parseServerMode, refuseOption } from './server-mode.js';
import { superfluousValue } from './values.js';

/** A parsed command line. */
export type Request =
  | { readonly kind: Question }
  | { readonly kind: 'list'; readonly listing: Listing }
  | { readonly kind: 'status'; readonly inspection: Inspection }
  | { readonly kind: 'watch'; readonly watch: Watch }
  | { readonly kind: 'unmount'; readonly mountpoint: string }
  | { readonly kind: 'completion'; readonly shell: Shell }
  | { readonly kind: 'cache'; readonly request: CacheRequest }
  /** `daemon`: serve in the background. */
  | {
      readonly kind: 'mount';
      readonly settings: Settings;
      readonly keep: KeepRequest;
      readonly daemon: boolean;
    }
  | {
      readonly kind: 'image';
      readonly image: ImageRequest;
      readonly settings: MountSettings;
      readonly daemon: boolean;
    }
  | { readonly kind: 'print-command'; readonly image: ImageRequest };

/** Settings of a mount whose server is not known yet. */
export type MountSettings = Omit<Settings, 'server'>;

/** The requests that need no server. */
export type Question = 'help' | 'version' | 'fuse-help' | 'long-options' | 'short-options';

/** The shells that have a completion script. */
export type Shell = 'bash' | 'zsh' | 'fish';

/** The mount that --status shows, and the output format. */
export interface Inspection {
  /** As typed: DIR, DIR/FILENAME or a file. Undefined: all mounts. */
  readonly mountpoint: string | undefined;
  /** `summary`: a line for each file. */
  readonly format: 'text' | 'summary' | 'json' | MetricsFormat;
}

/** The activity that --watch shows. */
export interface Watch {
  readonly mountpoint: string;
  readonly json: boolean;
}

/** The server that --list asks, and the output format. */
export interface Listing {
  readonly server: ServerMode;
  readonly json: boolean;
  readonly verbose: boolean;
  readonly logFormat: LogFormat;
}

/** The options that --list accepts, by commander's names. */
const LIST_OPTIONS = ['list', 'json', 'verbose', 'logFormat'];

/** The same for --status and --unmount. */
const STATUS_OPTIONS = ['status', 'listMounts', 'watch', 'json', 'format', 'logFormat'];
const UNMOUNT_OPTIONS = ['unmount', 'logFormat'];

/** The values that commander collects, by the names that it derives from the options. */
interface OptionValues extends ImageValues {
  readonly connections: number;
  readonly o: readonly string[];
  readonly pidfile?: string;
  readonly readonly?: true;
  readonly s?: true;
  readonly threads?: number;
  readonly verbose?: true;
  readonly logFormat: LogFormat;
  readonly logFile?: string;
  readonly export?: string;
  readonly all?: true;
  readonly partitions?: true;
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
  readonly listMounts?: true;
  readonly metrics?: MetricsAddress;
  readonly unmount?: true;
  readonly watch?: true;
  readonly longOptions?: true;
  readonly shortOptions?: true;
  readonly version?: true;
}

/** Turns an error of commander into a UsageError, without its prefix `error: `. */
function usageErrorFrom(error: unknown): unknown {
  if (!(error instanceof CommanderError)) return error;
  return new UsageError(`${printable(error.message.replace(/^error: /, ''))}; see nbdfuse --help`);
}

/** The parts of a command line. */
interface Words {
  readonly values: OptionValues;
  /** Names of the values that the user gave. */
  readonly given: readonly string[];
  /** The words after the options. */
  readonly operands: readonly string[];
  /** The words after the options, if the first of them looks like an option but is unknown. */
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

/** @throws UsageError when an option was given that `main` does not accept */
function allowOnly(main: string, allowed: readonly string[], given: readonly string[]): void {
  const odd = given.find((name) => !allowed.includes(name));
  if (odd === undefined) return;
  const name = OPTIONS.find((option) => option.attributeName() === odd)?.names.at(-1);
  throw new UsageError(`${name} cannot be used with ${main}, which mounts nothing`);
}

/** The only operand of --status and --unmount. @throws UsageError */
function onlyMountpoint(main: string, { operands, unknown }: Words): string {
  const [mountpoint, ...more] = [...operands, ...unknown];
  refuseOption(more[0]);
  if (mountpoint === undefined || more.length > 0)
    throw new UsageError(`${main} takes one MOUNTPOINT: nbdfuse ${main} MOUNTPOINT; see nbdfuse --help`);
  return mountpoint;
}

/** The output format of --status or --list-mounts. @throws UsageError */
function statusFormat({ json, format, status }: OptionValues): Inspection['format'] {
  if (format === undefined) return json ? 'json' : status ? 'text' : 'summary';
  if (typeof format !== 'string')
    throw new UsageError(`--format with --status must be one of ${METRICS_FORMATS.join(', ')}`);
  if (json) throw new UsageError(`--json and --format=${format} cannot be used together; see nbdfuse --help`);
  return format;
}

/** --status or --list-mounts. @throws UsageError */
function statusRequest(words: Words): Request {
  const { values, given, operands, unknown } = words;
  const main = values.listMounts ? '--list-mounts' : '--status';
  allowOnly(main, STATUS_OPTIONS, given);
  const format = statusFormat(values);
  if (values.listMounts) {
    if (values.watch) throw new UsageError('--watch shows one mount: nbdfuse --status --watch MOUNTPOINT');
    if (operands.length + unknown.length > 0)
      throw new UsageError('--list-mounts shows all mounts: remove MOUNTPOINT, or use --status alone');
    return { kind: 'status', inspection: { mountpoint: undefined, format } };
  }
  const mountpoint = onlyMountpoint('--status', words);
  if (!values.watch) return { kind: 'status', inspection: { mountpoint, format } };
  if (values.format !== undefined)
    throw new UsageError('--watch and --format cannot be used together; see nbdfuse --help');
  return { kind: 'watch', watch: { mountpoint, json: values.json ?? false } };
}

/** A request about an existing mount; undefined for every other request. */
function mountedRequest(words: Words): Request | undefined {
  const { values, given } = words;
  if (values.status || values.listMounts) return statusRequest(words);
  if (values.watch) throw new UsageError('--watch needs --status: nbdfuse --status --watch MOUNTPOINT');
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

/** @throws UsageError when another option contradicts --partitions */
function checkPartitions(values: OptionValues, given: readonly string[]): void {
  if (!values.partitions) return;
  const other = ['all', 'partition'].find((name) => given.includes(name));
  if (other !== undefined) {
    throw new UsageError(`--partitions and --${other} cannot be used together; see nbdfuse --help`);
  }
  if (given.includes('cache') && values.cache !== 'none') {
    throw new UsageError('--partitions works with --cache=none only, its default: remove --cache');
  }
}

/** @throws UsageError when --all does not work with the server or with --export */
function checkAll(server: ServerMode, exportName: string | undefined): void {
  if (server.kind === 'command' || server.kind === 'fd') {
    const next = server.kind === 'command' ? '; use [ CMD ] instead' : '';
    throw new UsageError(`--all needs one connection per file, and --${server.kind} has only one${next}`);
  }
  if (exportName !== undefined)
    throw new UsageError('--all and --export cannot be used together; see nbdfuse --help');
}

/** @throws UsageError when nothing can be kept of a server */
function checkKept(server: ServerMode, { all }: OptionValues): void {
  const what = '--cache-file, --cache-dir, --prefetch and --trace';
  if (server.kind === 'fd')
    throw new UsageError(`${what} cannot be used with --fd, which is one connection: name the server itself`);
  if (all) throw new UsageError(`${what} work with one export: remove --all`);
}

function settingsFrom(values: OptionValues, mountpoint: string): MountSettings {
  return {
    mountpoint,
    all: values.all ?? false,
    partitions: values.partitions ?? false,
    exportName: values.export,
    connections: values.connections,
    fuseOptions: values.o,
    pidfile: values.pidfile,
    metrics: values.metrics,
    readOnly: values.readonly ?? false,
    threads: values.threads ?? 1,
    verbose: values.verbose ?? false,
    logFormat: values.logFormat,
    logFile: values.logFile,
    backend: values.fuseBackend,
    // The kernel's caches of the files of one disk would not know each other.
    cache: values.partitions ? 'none' : values.cache,
    reconnectMs: values.reconnect,
    restart: values.restart ?? false,
    timeoutMs: values.timeout,
    settleMs: values.settleTime,
  };
}

/** @throws UsageError when the value of an option that has it after `=` only is a word of its own */
function refuseDetachedValue(words: readonly string[], [value, next, ...more]: readonly string[]): void {
  const { option, words: own = [] } = splitOptions(words).options.at(-1) ?? {};
  const isOption = option?.optional === true && own[0]?.includes('=') === false;
  if (!isOption || more.length === 0 || isModeWord(next)) return;
  // All words but options are in their places.
  if (misplacedOption(next) === undefined && misplacedOption(more[0]) !== undefined) return;
  throw new UsageError(`the value of ${option.long} follows "=": write ${option.long}=${printable(value)}`);
}

/** @param unknown the first word that commander does not know: of `-r=1` it has removed the known letter */
function refuseUnknown(unknown: string, words: readonly string[]): never {
  const whole = unknown.startsWith('-=') ? words.find((word) => /^-\w+=/.test(word)) : undefined;
  const flag = flagWithValue(whole ?? unknown);
  if (flag !== undefined) throw superfluousValue(flag);
  throw new UsageError(`unknown option '${printable(unknown)}'; see nbdfuse --help`);
}

/** @throws UsageError when an option of nbdfuse itself is among those of -o */
function refuseOwnOptions(texts: readonly string[]): void {
  for (const word of texts.flatMap((text) => text.split(','))) {
    const [name, ...value] = word.split('=');
    const option = OPTIONS.find(({ long }) => long === `--${name}`);
    if (option === undefined) continue;
    const own = takesValue(option) ? `--${[name, ...value].join('=')}` : `--${name}`;
    throw new UsageError(
      `-o ${printable(name)}: this is an option of nbdfuse itself: write ${printable(own)}`,
    );
  }
}

/** @throws UsageError when MOUNTPOINT is a URI */
function refuseUriAsMountpoint(mountpoint: string, [next]: readonly string[]): void {
  if (!/^[a-z][\w.+-]*:\/\//i.test(mountpoint)) return;
  const isOther = next !== undefined && !isModeWord(next) && !next.includes('://');
  const line = `nbdfuse ${isOther ? printable(next) : 'MOUNTPOINT'} ${printable(mountpoint)}`;
  throw new UsageError(`MOUNTPOINT comes before the server: ${line}`);
}

/** A request to mount a server, or an image whose server is chosen later. */
function mountRequest({ values, given, operands }: Words): Request {
  const [mountpoint, ...words] = operands;
  if (mountpoint === undefined) {
    throw new UsageError('no MOUNTPOINT given: nbdfuse MOUNTPOINT[/FILENAME] URI; see nbdfuse --help');
  }
  refuseUriAsMountpoint(mountpoint, words);
  refuseOwnOptions(values.o);
  if (values.s && values.threads !== undefined)
    throw new UsageError('-s and --threads cannot be used together; see nbdfuse --help');
  checkPartitions(values, given);
  if (values.metrics !== undefined && values.fuseBackend !== 'kernel')
    throw new UsageError('--metrics needs the kernel backend: remove --fuse-backend');
  const settings = settingsFrom(values, mountpoint);
  const daemon = values.daemon ?? false;
  const image = imageFrom(words, values, given);
  if (image !== undefined) {
    if (values.export !== undefined)
      throw new UsageError('--export cannot be used with an image, only with an NBD server');
    if (values.all) throw new UsageError('--all cannot be used with an image, only with an NBD server');
    return values.printCommand
      ? { kind: 'print-command', image }
      : { kind: 'image', image, settings, daemon };
  }
  const server = parseServerMode(words);
  if (server.kind === 'uri' && values.export !== undefined) {
    throw new UsageError('--export cannot be used with a URI: write the name into the URI, nbd://HOST/NAME');
  }
  if (values.all) checkAll(server, values.export);
  const keep = keepFrom(values);
  if (wantsKept(keep)) checkKept(server, values);
  else if (keep.cacheMemory !== undefined)
    throw new UsageError('--cache-memory needs an image, or --cache-file, --cache-dir or --prefetch');
  return { kind: 'mount', settings: { ...settings, server }, keep, daemon };
}

/**
 * Parses `words`, the command line without the program.
 * @throws UsageError when the command line is not valid
 */
export function parseArguments(words: readonly string[]): Request {
  const request = cacheRequestFrom(words);
  if (request !== undefined) return { kind: 'cache', request };
  const parsed = parseOptions(words);
  const { values, operands, unknown } = parsed;
  const [first] = unknown;
  if (first !== undefined && !isModeWord(first)) refuseUnknown(first, words);
  refuseOtherThanUtf8(words, [
    values.list ? undefined : operands[0],
    values.pidfile,
    values.metrics?.kind === 'unix' ? values.metrics.path : undefined,
  ]);
  const kind = informationWanted(values);
  if (kind !== undefined) return { kind };
  if (values.completion !== undefined) return { kind: 'completion', shell: values.completion };
  if (values.list) return { kind: 'list', listing: listingFrom(parsed) };
  const mounted = mountedRequest(parsed);
  if (mounted !== undefined) return mounted;
  if (values.json)
    throw new UsageError('--json needs --list, --status or --list-mounts: nbdfuse --list --json URI');
  const misplaced = first ?? operands[0];
  if (misplaced !== undefined && isModeWord(misplaced)) {
    throw new UsageError(`${misplaced} must come after MOUNTPOINT: nbdfuse MOUNTPOINT ${misplaced} ...`);
  }
  if (values.daemon && values.foreground)
    throw new UsageError('--daemon and --foreground cannot be used together; see nbdfuse --help');
  refuseDetachedValue(words, operands);
  return mountRequest(parsed);
}
