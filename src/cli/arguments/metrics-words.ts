// The values of --metrics, and those of --format that are for --status. Pure.

import { printable } from '../../nbd/text.js';
import type { MetricsFormat } from '../../session/metrics/exposition.js';
import type { MetricsAddress } from '../../session/settings.js';
import { UsageError } from '../errors.js';

/** The values of --format that are for --status. */
export const METRICS_FORMATS: readonly MetricsFormat[] = ['openmetrics', 'prometheus'];

/** The format of metrics with this name. */
export function metricsFormat(text: string): MetricsFormat | undefined {
  return METRICS_FORMATS.find((one) => one === text);
}

/** Where --metrics listens without an address: only programs on this machine reach it. */
const LOOPBACK = '127.0.0.1';

const MAXIMUM_PORT = 65_535;

/** Parses PORT, :PORT, ADDRESS:PORT, [ADDRESS]:PORT or unix:PATH. @throws UsageError */
export function metricsAddress(text: string): MetricsAddress {
  if (/^unix:./s.test(text)) return { kind: 'unix', path: text.slice('unix:'.length) };
  const found = /^(?:(?:\[([0-9a-f:.]+)\]|([^:[\]/]*)):)?(\d{1,5})$/i.exec(text);
  const port = Number(found?.[3] ?? Number.NaN);
  if (found === null || port > MAXIMUM_PORT)
    throw new UsageError(
      `--metrics ${printable(text)}: must be PORT, ADDRESS:PORT, [IPV6-ADDRESS]:PORT or unix:PATH`,
    );
  const host = found[1] ?? found[2] ?? '';
  return { kind: 'tcp', host: host === '' ? LOOPBACK : host, port };
}
