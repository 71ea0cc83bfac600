// Checks whether statfs(2) on a path returns: a FUSE file system whose server is frozen never answers.
//
// Called before this process accesses the path. Only SIGKILL could end a thread of ours that waits there, and the end
// of the process would wait for it. So a child tries first, which can be left behind. The kernel has no cache for
// statfs(2), as it has for stat(2).

import { spawn } from 'node:child_process';
import { wordsWithPath } from '../linux/path-text.js';

/** Milliseconds in which a file system that is alive answers. */
export const PATIENCE = 3000;

/** Whether statfs(2) on `path` returns, even with an error. Never rejects. */
export function answers(path: string): Promise<boolean> {
  const [file, ...words] = wordsWithPath(['stat', '-f', '--'], path);
  const child = spawn(file, words, { stdio: 'ignore' });
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.unref();
      resolve(false);
    }, PATIENCE);
    const looked = (): void => {
      clearTimeout(timer);
      resolve(true);
    };
    child.on('exit', looked);
    // If the program cannot be started, nothing is known against the path.
    child.on('error', looked);
  });
}
