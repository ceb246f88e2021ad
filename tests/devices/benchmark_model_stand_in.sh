#!/bin/sh
# Prints what LiteRT's benchmark_model prints, line for line: the format strings of tflite/tools/benchmark/benchmark_model.cc (LogParams, Run, OnBenchmarkEnd),
# of StatWithPercentiles::OutputToStream and of the delegate's log. The real program can't be had from a package registry. The numbers are made up.
for word in "$@"; do
  case "$word" in
    --graph=*) graph=${word#*=} ;; --num_runs=*) runs=${word#*=} ;; --num_threads=*) threads=${word#*=} ;;
    --warmup_runs=*) warmups=${word#*=} ;; --min_secs=*) secs=${word#*=} ;; --max_secs=*) max=${word#*=} ;; --warmup_min_secs=*) wsecs=${word#*=} ;;
  esac
done
echo "INFO: STARTING!"
echo "INFO: Log parameter values verbosely: [0]"
echo "INFO: Min num runs: [$runs]"
echo "INFO: Num threads: [$threads]"
echo "INFO: Graph: [$graph]"
if [ ! -s "$graph" ]; then
  echo "ERROR: Could not open '$graph'." >&2
  echo "ERROR: Failed to mmap model $graph" >&2
  echo "ERROR: Benchmarking failed." >&2
  exit 1
fi
echo "INFO: Loaded model $graph"
echo "INFO: Initialized TensorFlow Lite runtime." >&2
echo "INFO: Created TensorFlow Lite XNNPACK delegate for CPU." >&2
echo "INFO: Replacing 63 out of 65 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 partitions for subgraph 0." >&2
echo "INFO: The input model file size (MB): 3.57776"
echo "INFO: Initialized session in 12.345ms."
echo "INFO: Running benchmark for at least $warmups iterations and at least $wsecs seconds but terminate if exceeding $max seconds."
echo "INFO: count=$warmups first=20147 curr=10940 min=10764 max=20147 avg=11184.6 std=1381 p5=10764 median=10940 p95=20147"
echo
echo "INFO: Running benchmark for at least $runs iterations and at least $secs seconds but terminate if exceeding $max seconds."
if [ "$runs" = 1 ]; then
  sample=$((10900 + $$ % 100))
  echo "INFO: count=1 curr=$sample p5=$sample median=$sample p95=$sample"
  overall=9.25
else
  sleep 0.5
  echo "INFO: count=$runs first=11010 curr=10890 min=10730 max=11500 avg=10965.2 std=118 p5=10801 median=10951 p95=11203"
  overall=10.5
fi
echo
echo "INFO: Inference timings in us: Init: 12345, First inference: 20147, Warmup (avg): 11184.6, Inference (avg): 10965.2"
echo "INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion."
echo "INFO: Memory footprint delta from the start of the tool (MB): init=3.5 overall=$overall"
