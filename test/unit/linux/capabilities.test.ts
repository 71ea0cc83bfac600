import { expect, test } from 'vitest';
import { hasSysAdmin } from '../../../src/linux/capabilities.js';

const status = (digits: string): string => `Name:\tnode\nCapPrm:\t000001ffffffffff\nCapEff:\t${digits}\n`;

test('SYS_ADMIN is bit 21 of the effective capabilities', () => {
  expect(hasSysAdmin(status('000001ffffffffff'))).toBe(true);
  expect(hasSysAdmin(status('0000000000200000'))).toBe(true);
  expect(hasSysAdmin(status('000001ffffdfffff'))).toBe(false);
  expect(hasSysAdmin(status('0000000000000000'))).toBe(false);
  expect(hasSysAdmin('Name:\tnode\n')).toBe(false);
});
