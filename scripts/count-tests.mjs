// Prints `N passed, N failed` of vitest's JSON reports: `count-tests.mjs STATUS REPORT …`.
//
// STATUS is vitest's exit status. An error outside of every test shows only there, and counts as one failed
// test.
import { readFileSync } from 'node:fs';

const [status, ...reports] = process.argv.slice(2);

function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return {};
  }
}

/** A file that could not be loaded counts as one failed test. */
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
