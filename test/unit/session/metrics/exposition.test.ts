// Metrics as text, in both formats.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expositionText, type Family, numberText } from '../../../../src/session/metrics/exposition.js';

const COUNTER: Family = {
  name: 'disk_bytes',
  type: 'counter',
  unit: 'bytes',
  help: 'Bytes.',
  samples: [{ labels: { file: 'a"b\\c\nd' }, value: '9223372036854775807' }],
};

const INFO: Family = { name: 'disk', type: 'info', help: 'A disk.', samples: [{ labels: {}, value: 1 }] };

const HISTOGRAM: Family = {
  name: 'wait_seconds',
  type: 'histogram',
  unit: 'seconds',
  help: 'Waits.',
  samples: [
    {
      labels: { op: 'read' },
      value: {
        buckets: [
          { le: 0.000016, count: 1 },
          { le: 0.5, count: 3 },
        ],
        count: 4,
        sum: 2.5,
      },
    },
  ],
};

describe('OpenMetrics text', () => {
  it('has type, unit and help of each family, suffixes on the samples, and an end', () => {
    expect(expositionText([COUNTER, INFO], 'openmetrics')).toBe(`# HELP disk_bytes Bytes.
# TYPE disk_bytes counter
# UNIT disk_bytes bytes
disk_bytes_total{file="a\\"b\\\\c\\nd"} 9223372036854775807
# HELP disk A disk.
# TYPE disk info
disk_info 1
# EOF
`);
  });

  it('has cumulative buckets with bounds as Go writes them, the count and the sum', () => {
    expect(
      expositionText([HISTOGRAM], 'openmetrics'),
    ).toContain(`wait_seconds_bucket{op="read",le="1.6e-05"} 1
wait_seconds_bucket{op="read",le="0.5"} 3
wait_seconds_bucket{op="read",le="+Inf"} 4
wait_seconds_count{op="read"} 4
wait_seconds_sum{op="read"} 2.5
`);
  });

  it('leaves out a family without samples', () => {
    expect(expositionText([{ ...COUNTER, samples: [] }], 'openmetrics')).toBe('# EOF\n');
  });
});

describe('text format 0.0.4', () => {
  it('describes the samples by their whole names, with the types that it has, and no end', () => {
    expect(expositionText([COUNTER, INFO], 'prometheus')).toBe(`# HELP disk_bytes_total Bytes.
# TYPE disk_bytes_total counter
disk_bytes_total{file="a\\"b\\\\c\\nd"} 9223372036854775807
# HELP disk_info A disk.
# TYPE disk_info gauge
disk_info 1
`);
  });
});

describe('numbers in metrics', () => {
  it.each([
    [0, '0'],
    [0.000016, '1.6e-05'],
    [0.000128, '0.000128'],
    [1e-10, '1e-10'],
    [Number.POSITIVE_INFINITY, '+Inf'],
  ])('%d is %s', (value, text) => {
    expect(numberText(value)).toBe(text);
  });

  it('keep their value', () => {
    fc.assert(
      fc.property(
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        (value) => Number(numberText(value)) === value,
      ),
    );
  });
});
