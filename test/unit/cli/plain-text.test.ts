import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { plainText } from '../../../src/cli/plain-text.js';

it("messages: errors of node's own APIs show no code and no system call", async () => {
  const failure = await readdir('/no/such').catch((error: unknown) => error);
  expect(plainText(failure as Error)).toBe('/no/such: no such file or directory');
  expect(() => readFileSync(2 ** 20)).toThrow('EBADF');
  try {
    readFileSync(2 ** 20);
  } catch (error) {
    expect(plainText(error as Error)).toBe('bad file descriptor');
  }
  expect(plainText(spawnSync('/no/such').error ?? new Error())).toBe(
    'spawnSync /no/such: no such file or directory',
  );
  expect(plainText(new Error('requests fail with EIO'))).toBe('requests fail with EIO');
});
