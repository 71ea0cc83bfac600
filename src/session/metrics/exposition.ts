// Families of metrics as text, in the OpenMetrics format or in Prometheus' own. Pure.
//
// https://prometheus.io/docs/specs/om/open_metrics_spec/ and https://prometheus.io/docs/instrumenting/exposition_formats/

/** `openmetrics`: version 1.0.0. `prometheus`: the text format 0.0.4, which more tools read. */
export type MetricsFormat = 'openmetrics' | 'prometheus';

/** The media type of each format. */
export const CONTENT_TYPES: Readonly<Record<MetricsFormat, string>> = {
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
};

/** Names and values, in the order in which they are written. */
export type Labels = Readonly<Record<string, string>>;

/** A histogram: cumulative counts of the values up to each bound, and the sum of all values. */
export interface Histogram {
  readonly buckets: readonly { readonly le: number; readonly count: number }[];
  readonly count: number;
  readonly sum: number;
}

/** One value with its labels. A text has the digits of a whole number. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number | string | Histogram;
}

/** A metric with a sample for each set of labels. `name` ends with the unit, and has no `_total` and no `_info`. */
export interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram' | 'info';
  readonly unit?: 'bytes' | 'seconds';
  readonly help: string;
  readonly samples: readonly Sample[];
}

const SUFFIXES: Readonly<Record<Family['type'], string>> = {
  counter: '_total',
  gauge: '',
  histogram: '',
  info: '_info',
};

/** Below this, Go writes numbers with an exponent, and so must the bound of a bucket. */
const LEAST_WITHOUT_EXPONENT = 1e-4;

/** A number as Go writes it: 0.0000625 is `6.25e-05`. */
export function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === 0 || Math.abs(value) >= LEAST_WITHOUT_EXPONENT) return String(value);
  return value.toExponential().replace(/-(\d)$/, '-0$1');
}

/** A text within quotes: with backslashes before backslashes, quotes and ends of lines. */
function quoted(text: string): string {
  const escaped = text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  return `"${escaped}"`;
}

function line(name: string, labels: Labels, value: number | string): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}=${quoted(text)}`);
  const set = pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
  return `${name}${set} ${typeof value === 'number' ? numberText(value) : value}\n`;
}

function histogramLines(name: string, labels: Labels, { buckets, count, sum }: Histogram): string {
  const all = [...buckets, { le: Number.POSITIVE_INFINITY, count }];
  const lines = all.map((one) => line(`${name}_bucket`, { ...labels, le: numberText(one.le) }, one.count));
  return `${lines.join('')}${line(`${name}_count`, labels, count)}${line(`${name}_sum`, labels, sum)}`;
}

function familyText({ name, type, unit, help, samples }: Family, format: MetricsFormat): string {
  const isOpen = format === 'openmetrics';
  const sampleName = name + SUFFIXES[type];
  const described = isOpen ? name : sampleName;
  const lines = samples.map(({ labels, value }) =>
    typeof value === 'object' ? histogramLines(name, labels, value) : line(sampleName, labels, value),
  );
  const unitLine = isOpen && unit !== undefined ? `# UNIT ${described} ${unit}\n` : '';
  const typeLine = `# TYPE ${described} ${!isOpen && type === 'info' ? 'gauge' : type}\n`;
  return `# HELP ${described} ${help}\n${typeLine}${unitLine}${lines.join('')}`;
}

/** The text of all families that have samples. */
export function expositionText(families: readonly Family[], format: MetricsFormat): string {
  const texts = families.filter(({ samples }) => samples.length > 0).map((one) => familyText(one, format));
  return `${texts.join('')}${format === 'openmetrics' ? '# EOF\n' : ''}`;
}
