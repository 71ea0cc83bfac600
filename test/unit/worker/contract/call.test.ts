import { expect, it } from 'vitest';
import { type Call, deliver, sender } from '../../../../src/worker/contract/call.js';

interface Calls {
  add(a: number, b: number): void;
  end(): void;
}

it('call: arrives as it was sent', () => {
  const posted: (readonly unknown[])[] = [];
  const send = sender<Calls>((call) => posted.push(call));
  send('add', 1, 2);
  send('end');
  const received: unknown[] = [];
  const target: Calls = {
    add(a, b) {
      received.push([this === target, a, b]);
    },
    end: () => received.push('end'),
  };
  for (const call of posted) deliver<Calls>(call as Call<Calls>, target);
  expect(received).toEqual([[true, 1, 2], 'end']);
});

it('call: an unknown one is a defect', () => {
  expect(() => deliver<Calls>(['end'], {})).toThrow(/no call end is expected here/);
  expect(() => deliver<Calls>(['constructor' as 'end', 1], Object.create(null))).toThrow(/constructor/);
});
