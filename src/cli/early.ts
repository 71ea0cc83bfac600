// Starts the worker thread before the program itself is loaded; the thread starts on another core meanwhile.
//
// Called by bin/nbdfuse. scripts/bundle.mjs makes it a separate script, which must stay small. It guesses from the
// words alone whether the command line mounts: a wrong guess costs time and nothing else.

import { setFlagsFromString } from 'node:v8';
import type { Worker } from 'node:worker_threads';
import { spawnWorker } from '../worker/spawn.js';
import { isDirectoryDeleted } from './current-directory.js';

/** Options of a mount that this process serves with the kernel backend; a test compares them with options.ts. */
const MOUNTING =
  /^(-[CPdforsv]|--(all|allow-references|cache(-dir|-file|-memory|-size)?|connections|export|foreground|format|key-file|log-(file|format)|member|metrics|overlay|partitions?|pid-?file|prefetch|read-?only|reconnect|restart|settle-time|share|snapshot-name|threads|timeout|trace|verbose)(=|$))/;

/** The words after the mountpoint that begin the server. */
const SERVER = /^(\[|--(cmd|command|fd|(systemd-)?socket-activation|tcp|unix|uri|vsock))$/;

/** `nbdfuse cache` with its actions mounts nothing. */
const CACHE = /^cache (list|verify|prune|export)$/;

/** Whether `words`, the command line without node and script, most likely ask for a mount. */
export function looksLikeMount(words: readonly string[]): boolean {
  const end = words.findIndex((word) => SERVER.test(word));
  const before = end < 0 ? words : words.slice(0, end);
  return (
    words.length > 1 &&
    !CACHE.test(words.slice(0, 2).join(' ')) &&
    before.every((word) => !word.startsWith('-') || MOUNTING.test(word))
  );
}

/** An idle worker, if `words` most likely ask for a mount; see `spawnWorker`. */
export function startEarly(words: readonly string[]): Worker | undefined {
  if (!looksLikeMount(words) || isDirectoryDeleted()) return undefined;
  // Copying the survivors of so small a young generation takes 0.2 ms. With helper threads, the collecting thread
  // waits until each of them gets a processor: 40 ms on a busy machine.
  setFlagsFromString('--no-parallel-scavenge');
  return spawnWorker();
}
