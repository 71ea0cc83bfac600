// Whether a path can be looked at: a FUSE file system whose server is frozen never answers.
//
// Called before this process looks for itself. A thread of ours that waited there could be ended by
// nothing but SIGKILL, and the end of the process would wait for it, so a child looks first: it can be
// left behind.

import { spawn } from 'node:child_process';

/** Milliseconds in which a file system that is alive answers. */
const PATIENCE = 3000;

/** Whether looking at `path` comes to an end, be it an error. Never rejects. */
export function answers(path: string): Promise<boolean> {
  const child = spawn('stat', ['-L', '--', path], { stdio: 'ignore' });
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
    // Where the program cannot be started, nothing is known against the path.
    child.on('error', looked);
  });
}
