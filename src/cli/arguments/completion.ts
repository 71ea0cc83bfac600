// The completion scripts that --completion prints. Pure.
//
// They contain every option of options.ts. After MOUNTPOINT they offer the words that name a server; after CMD
// the shell completes as usual.

import type { Shell } from './arguments.js';
import { bashCompletion } from './bash-completion.js';
import { CACHE_ACTIONS } from './cache-words.js';
import { CHOICES, type NamedOption, OPTIONS } from './options.js';
import { MODE_WORDS } from './server-mode.js';

const ACTIONS = Object.keys(CACHE_ACTIONS);

const takesValue = (option: NamedOption): boolean => option.required;

/** A text between single quotes, in zsh and fish. */
const quoted = (text: string): string => `'${text.replaceAll("'", '')}'`;

function zshSpec(option: NamedOption): readonly string[] {
  const description = (option.description ?? '').replace(/[[\]:]/g, '');
  return option.names.map((name) => {
    const values = CHOICES[name];
    const action = values === undefined ? '_files' : `(${values.join(' ')})`;
    const value = takesValue(option) ? `:value:${action}` : '';
    const equals = takesValue(option) && name.startsWith('--') ? '=' : '';
    return quoted(`${name}${equals}[${description}]${value}`);
  });
}

function zsh(): string {
  const cases = Object.entries(CACHE_ACTIONS).map(([action, options]) => {
    const specs = options.map(({ name, description, takesValue }) =>
      quoted(`${name}[${description}]${takesValue ? ':value:' : ''}`),
    );
    return `    ${action}) _arguments -S ${[...specs, "'*:file:_files'"].join(' ')};;`;
  });
  return `#compdef nbdfuse
# zsh completion of nbdfuse: nbdfuse --completion zsh > a directory of $fpath/_nbdfuse
if [[ $words[2] == cache ]] && (( CURRENT > 3 )) && [[ $words[3] == (${ACTIONS.join('|')}) ]]; then
  shift 2 words
  (( CURRENT -= 2 ))
  case $words[1] in
${cases.join('\n')}
  esac
  return
elif [[ $words[2] == cache ]] && (( CURRENT == 3 )); then
  compadd ${ACTIONS.join(' ')}
fi
_arguments -S ${OPTIONS.flatMap(zshSpec).join(' \\\n  ')} \\
  '1:mountpoint:_files' \\
  '2:server:(${MODE_WORDS.join(' ')} nbd\\:// nbd+unix\\:///)' \\
  '*::command:_normal'
`;
}

function fish(): string {
  const lines = OPTIONS.map((option) => {
    const names = option.names.map((name) =>
      name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
    );
    const values = option.names.map((name) => CHOICES[name]).find((found) => found !== undefined);
    const value = values === undefined ? '-r' : `-x -a ${quoted(values.join(' '))}`;
    const description = `-d ${quoted(option.description ?? '')}`;
    const when = `-n 'not __nbdfuse_cache ${ACTIONS.join(' ')}'`;
    return `complete -c nbdfuse ${when} ${names.join(' ')} ${takesValue(option) ? `${value} ` : ''}${description}`;
  });
  const cacheLines = Object.entries(CACHE_ACTIONS).flatMap(([action, options]) =>
    options.map(({ name, description, takesValue }) => {
      const value = takesValue ? '-x ' : '';
      return `complete -c nbdfuse -n '__nbdfuse_cache ${action}' -l ${name.slice(2)} ${value}-d ${quoted(description)}`;
    }),
  );
  return `# fish completion of nbdfuse: nbdfuse --completion fish > ~/.config/fish/completions/nbdfuse.fish
function __nbdfuse_cache -d 'Whether one of these words follows nbdfuse cache'
  set -l words (commandline -opc)
  test (count $words) -ge 3; and test "$words[2]" = cache; and contains -- "$words[3]" $argv
end
function __nbdfuse_is_cache -d 'Whether the word is the one after nbdfuse cache'
  set -l words (commandline -opc)
  test (count $words) -eq 2; and test "$words[2]" = cache
end
${lines.join('\n')}
complete -c nbdfuse -n 'test (count (commandline -opc)) -ge 2; and not __nbdfuse_cache ${ACTIONS.join(' ')}' -a ${quoted(MODE_WORDS.join(' '))}
complete -c nbdfuse -n __nbdfuse_is_cache -a ${quoted(ACTIONS.join(' '))}
${cacheLines.join('\n')}
`;
}

/** The script for a shell. */
export function completionScript(shell: Shell): string {
  if (shell === 'bash') return bashCompletion();
  return shell === 'zsh' ? zsh() : fish();
}
