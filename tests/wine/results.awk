# Makes tables of the output of `cargo test` and of the example.

/^ *Running / {
  program = $0
  sub(/^ *Running (unittests )?/, "", program)
  sub(/ \(.*/, "", program)
  sub(/\/main\.rs$/, "", program)
  if (program == "src/lib.rs") program = "unit tests"
  if (!(program in met)) { met[program]; programs[++count] = program }
}

/^NOT TESTED in / {
  reason = $0
  sub(/^NOT TESTED in [^ ]*: /, "", reason)
  if (!(reason in reasons)) order[++kinds] = reason
  reasons[reason]++
}

# What a test prints can come before its result.
/^test .* \.\.\. |^(ok|FAILED)$/ {
  if ($1 == "test") name = $2
  result = $NF
  if (/ \.\.\. ignored/) result = "ignored"
  if (result != "ok" && result != "FAILED" && result != "ignored") next
  test = program ": `" name "`"
  if (!(test in results)) tests[++tested] = test
  else if (results[test] == "FAILED" && result == "ok") again[++passed] = test
  results[test] = result
  from[test] = program
  path[test] = name
}

/^a guest counted|^the file says|^a guest that|^a guest whose/ { example[++lines] = $0 }

function cell(promise, protocol,  good, bad) {
  good = ran[promise, protocol, "ok"] + 0
  bad = ran[promise, protocol, "FAILED"] + 0
  if (!good && !bad) return "-"
  return bad ? bad " of " good + bad " failed" : good
}

END {
  for (i = 1; i <= tested; i++) {
    test = tests[i]; result = results[test]
    sums[from[test], result]++
    if (result == "FAILED") failed[++failures] = test
    if (split(path[test], part, "::") == 3 && part[2] ~ /^p[0-9][0-9]_/) {
      promise = part[2]
      if (!(promise in seen)) { seen[promise]; promises[++promised] = promise }
      ran[promise, part[3], result]++
    }
  }
  print "## Promises\n"
  print "How many tests passed, for threads in one engine and for an engine each. `-` where the promise"
  print "does not apply, or the system lacks the protocol.\n"
  n = split("native flock fcntl link symlink mkdir pid_file soft sqlite", columns, " ")
  line = "| promise |"; rule = "|---|"
  for (i = 1; i <= n; i++) { line = line " " columns[i] " |"; rule = rule "---|" }
  print line; print rule
  for (i = 1; i <= promised; i++) for (j = i; j > 1 && promises[j] < promises[j - 1]; j--) {
    swap = promises[j]; promises[j] = promises[j - 1]; promises[j - 1] = swap
  }
  for (i = 1; i <= promised; i++) {
    line = "| " promises[i] " |"
    for (j = 1; j <= n; j++) line = line " " cell(promises[i], columns[j]) " |"
    print line
  }
  print "\n## Test programs\n"
  print "| program | passed | failed |"; print "|---|---|---|"
  for (i = 1; i <= count; i++) {
    good = sums[programs[i], "ok"] + 0; bad = sums[programs[i], "FAILED"] + 0
    if (good || bad) print "| `" programs[i] "` | " good " | " bad " |"
  }
  for (i = 1; i <= failures; i++) print (i == 1 ? "\nFailed:\n\n" : "") "- " failed[i]
  if (passed) print "\nPassed only when run again, alone:\n"
  for (i = 1; i <= passed; i++) print "- " again[i]
  if (kinds) print "\nPassed without these parts:\n"
  for (i = 1; i <= kinds; i++) print "- " order[i] " (" reasons[order[i]] " tests)"
  print "\n## A component's host\n"
  print "`host/examples/wasmi.rs`: two guests, this program and another process take turns.\n"
  print "```text"
  for (i = 1; i <= lines; i++) print example[i]
  print "```"
}
