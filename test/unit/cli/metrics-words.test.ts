// --metrics, --list-mounts and the formats of --status on the command line.

import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments/arguments.js';
import { metricsAddress } from '../../../src/cli/arguments/metrics-words.js';

const LOOPBACK = '127.0.0.1';

describe('--metrics', () => {
  it.each([
    ['9000', { kind: 'tcp', host: LOOPBACK, port: 9000 }],
    [':9000', { kind: 'tcp', host: LOOPBACK, port: 9000 }],
    ['0', { kind: 'tcp', host: LOOPBACK, port: 0 }],
    ['0.0.0.0:9000', { kind: 'tcp', host: '0.0.0.0', port: 9000 }],
    ['host.example:80', { kind: 'tcp', host: 'host.example', port: 80 }],
    ['[::]:9000', { kind: 'tcp', host: '::', port: 9000 }],
    ['unix:/run/a:b', { kind: 'unix', path: '/run/a:b' }],
    ['unix:relative', { kind: 'unix', path: 'relative' }],
  ])('%s listens at %j', (text, address) => {
    expect(metricsAddress(text)).toEqual(address);
  });

  it.each(['', 'unix:', 'host', 'host:', '65536', '::1:9000', '[::1]', '[host]:1', 'a b/c:1', '-1'])(
    'refuses %j',
    (text) => {
      expect(() => metricsAddress(text)).toThrow(/^--metrics .*: must be PORT, ADDRESS:PORT, /);
    },
  );

  it('is a setting of the mount, off by default', () => {
    const settingsOf = (...options: readonly string[]) => {
      const request = parseArguments([...options, 'dir', 'nbd://host']);
      return request.kind === 'mount' ? request.settings.metrics : 'no mount';
    };
    expect(settingsOf()).toBeUndefined();
    expect(settingsOf('--metrics=9000')).toEqual({ kind: 'tcp', host: LOOPBACK, port: 9000 });
    expect(() => settingsOf('--metrics=1', '--fuse-backend=fuse-native')).toThrow(/needs the kernel backend/);
  });
});

describe('--status formats', () => {
  it.each([
    [['--status', 'dir'], { mountpoint: 'dir', format: 'text' }],
    [['--status', '--json', 'dir'], { mountpoint: 'dir', format: 'json' }],
    [['--status', '--format=openmetrics', 'dir'], { mountpoint: 'dir', format: 'openmetrics' }],
    [['--status', '--format=prometheus', 'dir'], { mountpoint: 'dir', format: 'prometheus' }],
    [['--status', '--list-mounts'], { mountpoint: undefined, format: 'text' }],
    [['--list-mounts'], { mountpoint: undefined, format: 'summary' }],
    [['--list-mounts', '--json'], { mountpoint: undefined, format: 'json' }],
    [['--list-mounts', '--format=openmetrics'], { mountpoint: undefined, format: 'openmetrics' }],
  ])('%j', (words, inspection) => {
    expect(parseArguments(words)).toEqual({ kind: 'status', inspection });
  });

  it.each([
    [['--status', '--format=qcow2', 'dir'], /^--format with --status must be one of openmetrics, prometheus/],
    [['--status', '--json', '--format=openmetrics', 'dir'], /cannot be used together/],
    [['--status', '--watch', '--format=openmetrics', 'dir'], /cannot be used together/],
    [['--status', '--watch', '--list-mounts'], /^--watch shows one mount/],
    [['--list-mounts', 'dir'], /^--list-mounts shows all mounts/],
    [['--list-mounts', '-r'], /cannot be used with --list-mounts/],
    [['--status', '--metrics=1', 'dir'], /^--metrics cannot be used with --status/],
    [['--format=openmetrics', 'dir', 'disk.raw'], /^--format=openmetrics needs --status/],
    [['--format=openmetrics', 'dir', 'nbd://host'], /^--format=openmetrics needs --status/],
  ])('refuses %j', (words, message) => {
    expect(() => parseArguments(words)).toThrow(message);
  });
});
