// The values of --format. Pure.

import {
  COMPRESSION_NAMES,
  FORMAT_NAMES,
  parseFormatWord,
  type RequestedFormat,
} from '../../image/formats.js';
import { printable } from '../../nbd/text.js';
import type { MetricsFormat } from '../../session/metrics/exposition.js';
import { UsageError } from '../errors.js';
import { METRICS_FORMATS, metricsFormat } from './metrics-words.js';

/** The values that completions offer. */
export const FORMAT_CHOICES: readonly string[] = [...FORMAT_NAMES, ...COMPRESSION_NAMES, ...METRICS_FORMATS];

/** Parses the value of --format: of an image, or of the output of --status. @throws UsageError */
export function requestedFormat(text: string): RequestedFormat | MetricsFormat {
  const requested = metricsFormat(text) ?? parseFormatWord(text);
  if (requested !== undefined) return requested;
  throw new UsageError(
    `--format ${printable(text)}: must be one of ${FORMAT_NAMES.join(', ')}, ${COMPRESSION_NAMES.join(', ')}, or a combination such as qcow2.xz; with --status ${METRICS_FORMATS.join(' or ')}`,
  );
}
