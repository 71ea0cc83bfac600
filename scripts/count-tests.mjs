// Prints `N passed, N failed` of vitest's JSON reports: `count-tests.mjs STATUS REPORT …`.
//
// STATUS is vitest's: errors outside of every test are in it alone, and count as one that failed.
import { readFileSync } from 'node:fs';

const [status, ...reports] = process.argv.slice(2);

function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return {};
  }
}

/** A file that could not even be loaded has no test that failed: it counts as one. */
const failuresOf = ({ status, assertionResults }) =>
  assertionResults.filter((test) => test.status === 'failed').length || Number(status === 'failed');

let passed = 0;
let failed = 0;
for (const { numPassedTests = 0, testResults = [] } of reports.map(readReport)) {
  passed += numPassedTests;
  failed += testResults.reduce((sum, file) => sum + failuresOf(file), 0);
}
if (failed === 0 && status !== '0') failed = 1;
console.log(`${passed} passed, ${failed} failed`);
