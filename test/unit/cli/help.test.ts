import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { helpText, longOptionsText, shortOptionsText } from '../../../src/cli/arguments/help.js';
import { versionText } from '../../../src/session/version.js';

/** The options that the C nbdfuse 1.14 prints. */
const PEER_LONG = [
  'fuse-help',
  'help',
  'connections',
  'pidfile',
  'pid-file',
  'readonly',
  'read-only',
  'verbose',
  'version',
];
const PEER_SHORT = ['C', 'd', 'o', 'P', 'r', 's', 'v', 'V'];

describe('help options', () => {
  it('--long-options lists one option per line, with all of the C nbdfuse, without the two list options', () => {
    const lines = longOptionsText().split('\n');
    expect(lines.pop()).toBe('');
    expect(lines).toEqual(expect.arrayContaining(PEER_LONG.map((name) => `--${name}`)));
    expect(lines.every((line) => /^--[a-z-]+$/.test(line))).toBe(true);
    expect(lines).not.toContain('--long-options');
    expect(lines).not.toContain('--short-options');
    expect(new Set(lines).size).toBe(lines.length);
  });

  it('--short-options lists the short options of the C nbdfuse, -f and -h', () => {
    const lines = shortOptionsText().trimEnd().split('\n');
    expect(lines.sort()).toEqual(['-f', '-h', ...PEER_SHORT.map((name) => `-${name}`)].sort());
  });

  it('--help explains every option and every mode in lines that fit a terminal', () => {
    const help = helpText();
    for (const name of [...longOptionsText().split('\n'), ...shortOptionsText().split('\n')]) {
      expect(help).toContain(name);
    }
    for (const mode of [
      'URI',
      '[ CMD',
      '--command',
      '--fd',
      '--tcp',
      '--unix',
      '--vsock',
      '--socket-activation',
    ]) {
      expect(help).toContain(mode);
    }
    for (const line of help.split('\n')) expect(line.length, line).toBeLessThanOrEqual(100);
  });

  it('--help: groups the options, gives each default once, and ends with three examples', () => {
    const help = helpText();
    const sections = help.split('\n\n').map((section) => section.split('\n'));
    const titles = sections.map(([first]) => first).filter((line) => line.endsWith(':'));
    expect(titles).toEqual([
      'Usage:',
      'SERVER is one of:',
      'What to mount:',
      'How to serve it:',
      'What to keep and fetch ahead:',
      'Running and unmounting:',
      'Monitoring and messages:',
      'Help:',
      'Examples:',
    ]);
    for (const [option, value] of [
      ['--cache MODE', 'writeback'],
      ['--connections N', '4'],
      ['--threads N', '1'],
      ['--reconnect SECONDS', '60'],
      ['--timeout SECONDS', '0, unlimited'],
      ['--settle-time SECONDS', 'never'],
      ['--fuse-backend BACKEND', 'kernel'],
      ['--log-format FORMAT', 'text'],
    ]) {
      const [line = '', ...more] = help.split('\n').filter((one) => one.includes(` ${option} `));
      expect([line, more]).toEqual([expect.stringMatching(`\\(default: ${value}\\)$`), []]);
      expect(line.match(/default/g)).toHaveLength(1);
    }
    expect(help).not.toContain('"');
    expect(help).not.toContain('[]');
    const examples = sections.at(-1)?.filter((line) => line.startsWith('    nbdfuse '));
    expect(examples).toHaveLength(3);
  });

  it('--version prints the name and version of package.json', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(versionText()).toBe(`nbdfuse ${version}\n`);
  });
});
