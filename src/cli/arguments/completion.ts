// The completion scripts that --completion prints. Pure.
//
// They contain every option of options.ts. After MOUNTPOINT they offer the words that name a server; after CMD
// the shell completes as usual.

import type { Shell } from './arguments.js';
import { CACHE_ACTIONS } from './cache-words.js';
import { CHOICES, type NamedOption, OPTIONS } from './options.js';
import { MODE_WORDS } from './server-mode.js';

/** Options that take the name of a file. */
const FILE_OPTIONS = [
  '--pidfile',
  '--pid-file',
  '-P',
  '--key-file',
  '--cache-file',
  '--cache-dir',
  '--trace',
  '--log-file',
];

const ACTIONS = Object.keys(CACHE_ACTIONS);

const takesValue = (option: NamedOption): boolean => option.required;
const valued = OPTIONS.filter(takesValue).flatMap(({ names }) => names);

function bash(): string {
  const choices = Object.entries(CHOICES).map(
    ([name, values]) => `    ${name}) COMPREPLY=($(compgen -W '${values.join(' ')}' -- "$word")); return;;`,
  );
  const cacheOptions = Object.entries(CACHE_ACTIONS).map(
    ([action, options]) =>
      `      ${action}) COMPREPLY=($(compgen -W '${options.map(({ name }) => name).join(' ')}' -- "$word"));;`,
  );
  return `# bash completion of nbdfuse: source <(nbdfuse --completion bash)
_nbdfuse() {
  local word=$2 before=$3 i
  COMPREPLY=()
  case $before in
${choices.join('\n')}
    ${FILE_OPTIONS.join('|')}) COMPREPLY=($(compgen -f -- "$word")); return;;
    ${valued.join('|')}) return;;
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${valued.join('|')}) ((i++));;
      -*) ;;
      *) break;;
    esac
  done
  if ((i >= COMP_CWORD)); then
    case $word in
      -*) COMPREPLY=($(compgen -W '${OPTIONS.flatMap(({ names }) => names).join(' ')}' -- "$word"));;
      *) COMPREPLY=($(compgen -f -- "$word"));;
    esac
  elif [[ \${COMP_WORDS[1]} == cache && \${COMP_WORDS[2]} =~ ^(${ACTIONS.join('|')})$ ]] && ((COMP_CWORD > 2)); then
    if [[ $word != -* ]]; then COMPREPLY=($(compgen -f -- "$word")); return; fi
    case \${COMP_WORDS[2]} in
${cacheOptions.join('\n')}
    esac
  elif [[ \${COMP_WORDS[1]} == cache ]] && ((COMP_CWORD == 2)); then
    COMPREPLY=($(compgen -W '${ACTIONS.join(' ')}' -- "$word") $(compgen -f -- "$word"))
  elif ((i + 1 == COMP_CWORD)); then
    COMPREPLY=($(compgen -W '${MODE_WORDS.join(' ')} nbd:// nbd+unix:///' -- "$word") $(compgen -f -- "$word"))
  else
    COMPREPLY=($(compgen -c -f -- "$word"))
  fi
}
complete -o filenames -o nospace -F _nbdfuse nbdfuse
`;
}

/** A text between single quotes, in zsh and fish. */
const quoted = (text: string): string => `'${text.replaceAll("'", '')}'`;

function zshSpec(option: NamedOption): readonly string[] {
  const description = (option.description ?? '').replace(/[[\]:]/g, '');
  return option.names.map((name) => {
    const values = CHOICES[name];
    const action = values === undefined ? '_files' : `(${values.join(' ')})`;
    const value = takesValue(option) ? `:value:${action}` : '';
    return quoted(`${name}[${description}]${value}`);
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
  if (shell === 'bash') return bash();
  return shell === 'zsh' ? zsh() : fish();
}
