// Measures how much of the source the test cases of a target reach, with V8's coverage.
//
// Called after fuzzing, in the driver: the test cases that were kept, and the seeds, are run again without
// the fuzzer's own instrumentation. Lines are those of the translated files, without comments.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Lines with code in the files that count for the target. */
export interface Coverage {
  readonly lines: number;
  readonly reached: number;
}

/** The source that each target is about. */
const ABOUT: Readonly<Record<string, RegExp>> = {
  handshake: /\/src\/nbd\/(handshake\/(?!expectation)[^/]*|byte-queue|text|transmission\/expectation)\.js$/,
  replies: /\/src\/nbd\/transmission\/(reply-receiver|reply-rules|coverage)\.js$/,
  worker:
    /\/src\/worker\/(connection|device|disk|flight|fuse|memory|request)\/(?!read-thread|export-directory|parked|readahead|sequential|trace|tls|zero-copy)[^/]*\.js$/,
  tls: /\/src\/tls\/(record-receiver|record-cipher|post-handshake|traffic-keys)\.js$/,
  uri: /\/src\/(nbd\/uri\/[^/]*|transport\/ssh)\.js$/,
};

interface V8Script {
  readonly url: string;
  readonly functions: readonly {
    readonly ranges: readonly {
      readonly startOffset: number;
      readonly endOffset: number;
      readonly count: number;
    }[];
  }[];
}

/** Whether each character of a script was run: inner ranges override outer ones. */
function ranFlags({ functions }: V8Script, length: number): Uint8Array {
  const ran = new Uint8Array(length);
  const ranges = functions.flatMap((one) => one.ranges);
  ranges.sort((a, b) => b.endOffset - b.startOffset - (a.endOffset - a.startOffset));
  for (const { startOffset, endOffset, count } of ranges) ran.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  return ran;
}

function linesOf(script: V8Script): Coverage {
  const text = readFileSync(fileURLToPath(script.url), 'utf8');
  const ran = ranFlags(script, text.length);
  let [lines, reached, at] = [0, 0, 0];
  for (const line of text.split('\n')) {
    // Lines that have only brackets, imports or exports do not count.
    if (/\w/.test(line) && !/^(var|__|0 &&|\s+[\w$]+,?$|module\.)/.test(line)) {
      lines++;
      if (
        ran.subarray(at, at + line.length).includes(1) &&
        !ran.subarray(at + line.search(/\S/), at + line.length).includes(0)
      )
        reached++;
    }
    at += line.length + 1;
  }
  return { lines, reached };
}

/** Runs the test cases of a target and counts. */
export function coverageOf(target: string): Coverage {
  const folder = mkdtempSync(join(tmpdir(), 'nbdfuse-fuzz-'));
  try {
    const env = { ...process.env, NODE_V8_COVERAGE: folder };
    execFileSync(process.execPath, ['tools/fuzz/build/tools/fuzz/replay.js', target], {
      env,
      stdio: 'inherit',
    });
    const [name] = readdirSync(folder);
    const { result }: { result: V8Script[] } = JSON.parse(readFileSync(join(folder, name), 'utf8'));
    const about = result.filter(({ url }) => ABOUT[target].test(url)).map(linesOf);
    return {
      lines: about.reduce((sum, { lines }) => sum + lines, 0),
      reached: about.reduce((sum, { reached }) => sum + reached, 0),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
