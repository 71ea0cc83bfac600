import { readSync, writeSync } from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { POLLIN, POLLOUT } from '../../../src/constants/poll-events.js';
import { pipe } from '../../../src/linux/pipe.js';
import { eventsOf, hasErrors, PollSet } from '../../../src/linux/poll.js';
import { closeDescriptor, socketpair } from '../../../src/linux/socket.js';

const POLLHUP = 16;
const POLLNVAL = 32;

function openPipe() {
  const ends = pipe();
  onTestFinished(() => {
    closeDescriptor(ends.read);
    closeDescriptor(ends.write);
  });
  return ends;
}

it('poll: reports which descriptors can be read, each at its own place', () => {
  const pipes = [openPipe(), openPipe(), openPipe()];
  const set = new PollSet(3);
  const places = pipes.map(({ read }) => set.add(read, POLLIN));
  expect(set.wait(0)).toBe(0);
  writeSync(pipes[1].write, 'x');
  expect(set.wait(-1)).toBe(1);
  expect(places.map((place) => set.reventsOf(place))).toEqual([0, POLLIN, 0]);
  readSync(pipes[1].read, Buffer.alloc(1));
  expect(set.wait(0)).toBe(0);
  expect(set.reventsOf(places[1])).toBe(0);
});

it('poll: tells the events of one descriptor at once, and whether it is of no use any more', () => {
  const { read, write } = pipe();
  expect([eventsOf(read, POLLIN), hasErrors(read)]).toEqual([0, false]);
  writeSync(write, 'x');
  expect([eventsOf(read, POLLIN), hasErrors(read)]).toEqual([POLLIN, false]);
  closeDescriptor(write);
  expect(hasErrors(read)).toBe(true);
  closeDescriptor(read);
  expect(hasErrors(read)).toBe(true);
});

it('poll: waits only for the requested events, and without events ignores even the end of a stream', () => {
  const [left, right] = socketpair();
  onTestFinished(() => closeDescriptor(left));
  const set = new PollSet(1);
  const place = set.add(left, POLLIN);
  expect(set.wait(0)).toBe(0);
  set.setEvents(place, POLLIN | POLLOUT);
  expect(set.wait(0)).toBe(1);
  expect(set.reventsOf(place)).toBe(POLLOUT);
  set.setEvents(place, 0);
  expect(set.wait(0)).toBe(0);
  closeDescriptor(right);
  expect(set.wait(0)).toBe(0);
  set.setEvents(place, POLLIN);
  expect(set.wait(0)).toBe(1);
  expect(set.reventsOf(place)).toBe(POLLIN | POLLHUP);
});

it('poll: keeps the other places when one is removed, and reuses that one', () => {
  const pipes = [openPipe(), openPipe(), openPipe()];
  for (const { write } of pipes) writeSync(write, 'x');
  const set = new PollSet(2);
  const first = set.add(pipes[0].read, POLLIN);
  const second = set.add(pipes[1].read, POLLIN);
  expect(set.wait(0)).toBe(2);
  set.remove(first);
  expect(set.reventsOf(first)).toBe(0);
  expect(set.wait(0)).toBe(1);
  expect(set.reventsOf(second)).toBe(POLLIN);
  expect(set.add(pipes[2].read, POLLIN)).toBe(first);
  expect(set.wait(0)).toBe(2);
});

it('poll: refuses more descriptors than fit, and continues with the others', () => {
  const { read, write } = openPipe();
  const set = new PollSet(1);
  const place = set.add(read, POLLIN);
  for (let i = 0; i < 3; i++) expect(() => set.add(read, POLLIN)).toThrow(RangeError);
  writeSync(write, 'x');
  expect(set.wait(0)).toBe(1);
  set.remove(place);
  expect(set.add(read, POLLIN)).toBe(place);
  expect(set.wait(0)).toBe(1);
});

it('poll: reports a closed descriptor instead of waiting for it', () => {
  const { read, write } = pipe();
  closeDescriptor(write);
  closeDescriptor(read);
  const set = new PollSet(1);
  const place = set.add(read, POLLIN);
  expect(set.wait(-1)).toBe(1);
  expect(set.reventsOf(place)).toBe(POLLNVAL);
});

it('poll: creates pipes that never block', () => {
  const { read } = openPipe();
  expect(() => readSync(read, Buffer.alloc(1))).toThrow(/EAGAIN/);
});
