// The options of what to keep and fetch ahead: their values, and where they are refused.

import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments/arguments.js';
import { keepServer } from '../../../src/cli/kept-server.js';
import type { Settings } from '../../../src/session/settings.js';
import { CHUNK_SERVER_WORDS } from '../../../src/transport/chunk-program.js';
import { createScope } from '../../support/cleanup.js';

function keepOf(...words: string[]) {
  const request = parseArguments(words);
  if (request.kind === 'image') return request.image.keep;
  if (request.kind === 'mount') return request.keep;
  throw new Error(request.kind);
}

describe('cache options', () => {
  it('apply to images and to servers', () => {
    const words = ['--cache-file=c', '--cache-size=1.5G', '--cache-memory', '64M', '--trace=t'];
    const expected = {
      cacheFile: 'c',
      cacheSize: 1.5 * 2 ** 30,
      cacheMemory: 2 ** 26,
      trace: 't',
      prefetch: undefined,
    };
    for (const server of [['disk.xz'], ['nbd://host'], ['--tcp', 'h', '1'], ['[', 'CMD', ']']])
      expect(keepOf(...words, 'dir', ...server)).toMatchObject(expected);
  });

  it.each<[string, number]>([
    ['--prefetch', Number.POSITIVE_INFINITY],
    ['--prefetch=20M', 20 * 2 ** 20],
    ['--prefetch=1000', 1000],
    ['--prefetch=10MiB', 10 * 2 ** 20],
  ])('%s', (word, rate) => {
    expect(keepOf(word, '--cache-dir=d', 'dir', 'disk.xz')).toMatchObject({ prefetch: rate, cacheDir: 'd' });
  });

  it.each<[string[], RegExp]>([
    [
      ['--cache-file=a', '--cache-dir=b', 'dir', 'd.xz'],
      /^--cache-file and --cache-dir cannot be used together/,
    ],
    [['--cache-size=1G', 'dir', 'd.xz'], /^--cache-size needs --cache-file or --cache-dir$/],
    [
      ['--cache-size=x', 'dir', 'd.xz'],
      /^--cache-size x: must be a size of at least 16M, such as 500M or 20G$/,
    ],
    [['--cache-memory=1M', 'dir', 'd.xz'], /^--cache-memory 1M: must be a size of at least 16M/],
    [['--prefetch=0', 'dir', 'd.xz'], /^--prefetch 0: must be a size of at least 1,/],
    [['--cache-file=', 'dir', 'd.xz'], /^--cache-file needs a path$/],
    [['--cache-file=a', 'dir', '--fd', '3'], / cannot be used with --fd, which is one connection/],
    [['--cache-file=a', '--all', 'dir', 'nbd://h'], / work with one export: remove --all$/],
    [['--cache-memory=64M', 'dir', 'nbd://h'], /^--cache-memory needs an image, or --cache-file/],
    [['--share', '--cache-dir=a', 'dir', 'd.qcow2'], /^--share cannot be used with a cache/],
    [['--cache-file=a', '--list', 'nbd://h'], /^--cache-file cannot be used with --list/],
  ])('%j fails', (words, message) => {
    expect(() => parseArguments(words)).toThrow(message);
  });
});

describe('cache of a server', () => {
  /** The words of the chunk server after its program. */
  async function kept(...words: string[]): Promise<{ line: string; settings: Settings }> {
    const request = parseArguments(words);
    if (request.kind !== 'mount') throw new Error(request.kind);
    const { settings } = await keepServer(request.settings, request.keep);
    if (settings.server.kind !== 'socket-activation') throw new Error(settings.server.kind);
    const { argv } = settings.server;
    expect(argv.slice(0, 2)).toEqual(CHUNK_SERVER_WORDS);
    return { line: argv.slice(2).join(' '), settings };
  }

  it.each<[string[], string]>([
    [['nbd://h/a'], '--source=nbd://h/a --prefetch= --writable --nbd=nbd://h/a'],
    [['--tcp', '::1', '7'], '--source=nbd://[::1]:7/ --prefetch= --writable --nbd=nbd://[::1]:7/'],
    [['--vsock', '2', '9'], '--source=nbd+vsock://2:9/ --prefetch= --writable --nbd=nbd+vsock://2:9/'],
  ])('%j is reached by a URI', async (server, expected) => {
    const { line, settings } = await kept('--prefetch', 'dir', ...server);
    expect(line).toBe(`--coding=plain ${expected}`);
    expect(settings.exportName).toBeUndefined();
  });

  it('has the export in the URI, and an absolute socket', async () => {
    const { line } = await kept('-r', '--prefetch', '--export=a b', 'dir', '--unix', 's');
    expect(line).toMatch(/ --nbd=nbd\+unix:\/\/\/a%20b\?socket=(\/|%2F)\S*s$/);
    expect(line).not.toContain('--writable');
  });

  it('starts CMD below, in a file of the cache directory that belongs to its words', async () => {
    const scope = createScope();
    const option = `--cache-dir=${scope.path('cache')}`;
    const one = await kept(option, 'dir', '[', 'nbdkit', 'memory', '1M', ']');
    expect(one.line).toMatch(/ --cache-file=\S*\/cache\/nbdkit-[0-9a-f]{16}\.img .*-- nbdkit memory 1M$/);
    expect(one.settings.server).toMatchObject({ name: 'socket-activation nbdkit memory 1M' });
    const other = await kept(option, 'dir', '--command', 'nbdkit', '-s', 'memory', '2M');
    expect(other.line).toMatch(/ --stdio -- nbdkit -s memory 2M$/);
    const file = /--cache-file=\S*/;
    expect(file.exec(other.line)?.[0]).not.toBe(file.exec(one.line)?.[0]);
  });
});
