// The completion scripts that --completion prints. Pure.
//
// They contain every option of options.ts. After MOUNTPOINT they offer the words that name a server, and files; after
// CMD the shell completes as usual.

import type { Shell } from './arguments.js';
import { bashCompletion } from './bash-completion.js';
import { fishCompletion } from './fish-completion.js';
import { zshCompletion } from './zsh-completion.js';

/** The script for a shell. */
export function completionScript(shell: Shell): string {
  switch (shell) {
    case 'bash':
      return bashCompletion();
    case 'zsh':
      return zshCompletion();
    default:
      return fishCompletion();
  }
}
