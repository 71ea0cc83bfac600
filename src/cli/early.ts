// What begins before the program itself is loaded: the worker's thread, which starts on another core meanwhile.
//
// Called by bin/nbdfuse; a script of its own (scripts/bundle.mjs), which has to stay small. Guesses from the
// words alone what the command line asks for: a wrong guess costs time and nothing else.

import { setFlagsFromString } from 'node:v8';
import type { Worker } from 'node:worker_threads';
import { spawnWorker } from '../worker/spawn.js';

/** Options of a mount that is served by this process, and by the kernel backend. */
const MOUNTING =
  /^(-[CPdforsv]|--(all|cache|connections|export|foreground|format|log-format|overlay|partition|pid-?file|read-?only|reconnect|restart|settle-time|snapshot-name|threads|timeout|verbose)(=|$))/;

/** Behind the mountpoint: what follows is the server's. */
const SERVER = /^(\[|--(command|fd|(systemd-)?socket-activation|tcp|unix|vsock))$/;

/** Whether `words`, the command line without node and script, most likely ask for a mount. */
export function looksLikeMount(words: readonly string[]): boolean {
  const end = words.findIndex((word) => SERVER.test(word));
  const before = end < 0 ? words : words.slice(0, end);
  return words.length > 1 && before.every((word) => !word.startsWith('-') || MOUNTING.test(word));
}

/** A worker that waits for its work, where `words` most likely ask for a mount; see `spawnWorker`. */
export function startEarly(words: readonly string[]): Worker | undefined {
  if (!looksLikeMount(words)) return undefined;
  // What survives of so small a young generation is copied in 0.2 ms; with helpers, the thread that
  // collects stands still until each of them has had its turn on the processor, 40 ms on a busy machine.
  setFlagsFromString('--no-parallel-scavenge');
  return spawnWorker();
}
