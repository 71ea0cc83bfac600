// The image options, and the output of --print-command. Pure.
//
// Called by arguments.ts. Image options apply to a file, a URL, or an NBD URI with a partition or an overlay.

import { contradictionOf } from '../../image/contradictions.js';
import type { RequestedFormat } from '../../image/formats.js';
import type { ImageRequest, PreparedImage } from '../../image/prepare.js';
import { isNbdUri } from '../../image/scheme.js';
import { shellLine } from '../../linux/shell.js';
import { withoutSecrets } from '../../nbd/secrets.js';
import { printable } from '../../nbd/text.js';
import type { MetricsFormat } from '../../session/metrics/exposition.js';
import { UsageError } from '../errors.js';
import { dashed, KEEP_OPTIONS, type KeepValues, keepFrom } from './keep.js';
import { splitOptions } from './option-words.js';
import { isModeWord, refuseOption } from './server-mode.js';

/** The values of the image options, by commander's names. */
export interface ImageValues extends KeepValues {
  /** A text is the name of a format for metrics. */
  readonly format?: RequestedFormat | MetricsFormat;
  readonly allowReferences?: true;
  readonly keyFile?: string;
  readonly member?: string;
  readonly snapshotName?: string;
  readonly partition?: number;
  /** Empty when no file is named. */
  readonly overlay?: string;
  readonly share?: true;
  readonly printCommand?: true;
}

/** Commander's names of the image options. */
const IMAGE_OPTIONS: readonly string[] = [
  'format',
  'allowReferences',
  'keyFile',
  'member',
  'snapshotName',
  'partition',
  'overlay',
  'share',
  'printCommand',
];

/**
 * The image that the words after MOUNTPOINT name; undefined when they name a server.
 * @param given names of the options that the user gave
 * @throws UsageError when an image option was given for a server
 */
export function imageFrom(
  words: readonly string[],
  values: ImageValues & { readonly readonly?: true; readonly restart?: true },
  given: readonly string[],
): ImageRequest | undefined {
  const [name = '', ...more] = words;
  const option = given.find((one) => IMAGE_OPTIONS.includes(one));
  const isName = more.length === 0 && name !== '' && !name.startsWith('-') && !isModeWord(name);
  if (option !== undefined && !isName) {
    if (!isModeWord(name)) refuseOption(more[0]);
    const isFile = more.length === 0 && name.startsWith('-') && !isModeWord(name);
    const next = isFile ? `for a file of this name, write ./${printable(name)}` : 'nbdfuse MOUNTPOINT IMAGE';
    throw new UsageError(`${dashed(option)} needs an image or a URI: ${next}`);
  }
  if (!isName || (isNbdUri(name) && option === undefined)) return undefined;
  const { overlay, format } = values;
  if (typeof format === 'string')
    throw new UsageError(`--format=${format} needs --status: nbdfuse --status --format=${format} MOUNTPOINT`);
  if (overlay === '' && values.restart) {
    throw new UsageError(
      '--restart would lose the writes in the temporary overlay: keep them with --overlay=FILE',
    );
  }
  const keep = keepFrom(values);
  const chosen = { ...keep, share: values.share, overlay: overlay !== undefined };
  const why = contradictionOf(chosen, dashed);
  if (why !== undefined) throw new UsageError(why);
  return {
    name,
    keep,
    requested: format ?? { format: undefined, compression: undefined },
    allowReferences: values.allowReferences ?? false,
    keyFile: values.keyFile,
    member: values.member,
    snapshotName: values.snapshotName,
    partition: values.partition,
    overlay: overlay === undefined ? undefined : overlay === '' ? 'temporary' : { path: overlay },
    readOnly: values.readonly ?? false,
    share: values.share ?? false,
  };
}

/** Stands for a file with the password, whose name the user chooses. */
const PASSWORD_FILE = 'PASSWORD-FILE';

/** The command lines that are equivalent to `words`, without image options. */
export function longCommand(words: readonly string[], prepared: PreparedImage): string {
  const { before, passwordFile } = prepared;
  const { options, rest } = splitOptions(words);
  const isKept = (name: string | undefined): boolean =>
    name === undefined || !(IMAGE_OPTIONS.includes(name) || KEEP_OPTIONS.includes(name));
  const kept = options.filter(({ option }) => isKept(option?.attributeName())).flatMap((one) => one.words);
  const dashes = rest[0] === '--' ? 1 : 0;
  const printed = (word: string): string =>
    withoutSecrets(passwordFile === undefined ? word : word.replaceAll(passwordFile, PASSWORD_FILE));
  const argv = prepared.argv.map(printed);
  const mountpoint = rest.slice(0, dashes + 1);
  const line = shellLine(['nbdfuse', ...kept, ...mountpoint, '[', ...argv, ']']);
  return before === undefined ? `${line}\n` : `${shellLine(before.map(printed))}\n${line}\n`;
}
