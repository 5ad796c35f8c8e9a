using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace NormLayers.Internals;

/// <summary>
/// Splits work over the thread pool. What is split never depends on the number of threads (rows, groups, blocks), only who
/// does which part, so that no result can change a bit.
/// </summary>
/// <remarks>Work items are reused and the caller works too, so that a call allocates nothing and never waits for a busy pool: parts that no other thread has begun, the caller does itself.</remarks>
internal static unsafe class Partition
{
    /// <summary>A second thread costs some ten microseconds to wake; a thread gets at least this many elements, some fifty microseconds of work.</summary>
    private const nint ElementsPerThread = 65536;

    /// <summary>Parts per thread: more than one, so that a thread that starts late or is slow does less.</summary>
    private const nint PartsPerThread = 4;

    /// <summary>Spare work items, taken and put back without a lock.</summary>
    private static readonly WorkItem?[] spare = new WorkItem?[64];

    /// <summary>How many threads some work should have.</summary>
    /// <param name="elements">The elements that it reads.</param>
    /// <param name="maxThreads">The most threads; 0 for as many as there are processors.</param>
    internal static int Threads(nint elements, int maxThreads)
        => (int)Math.Clamp(elements / ElementsPerThread, 1, maxThreads > 0 ? maxThreads : Environment.ProcessorCount);

    /// <summary>Calls <paramref name="body"/> for ranges that together are [0, count), on up to <paramref name="threads"/> threads, and returns when all is done.</summary>
    /// <param name="count">The number of parts that can be told apart.</param>
    /// <param name="threads">The number of threads, the caller's among them.</param>
    /// <param name="body">The work on [start, end). What it throws (there may be no memory for its scratch), of several the first, is thrown when no thread works any more.</param>
    /// <param name="state">What the body is given; may lie on the caller's stack.</param>
    internal static void Run(nint count, int threads, delegate*<void*, nint, nint, void> body, void* state)
    {
        if (threads <= 1 || count <= 1)
        {
            body(state, 0, count);
            return;
        }
        var job = new Job { Count = count, Chunk = Math.Max(1, count / (threads * PartsPerThread)), Body = body, State = state };
        int helpers = (int)Math.Min(threads, count) - 1;
        HelperList items = default;
        helpers = Math.Min(helpers, HelperList.Capacity);
        // Whatever happens, the job is on this stack until all have left it.
        Exception? failure = null;
        int queued = 0;
        try
        {
            for (; queued < helpers; queued++)
            {
                WorkItem item = WorkItem.Take(&job);
                ThreadPool.UnsafeQueueUserWorkItem(item, preferLocal: false);
                items[queued] = item;
            }
            job.Work();
        }
        catch (Exception exception)
        {
            failure = exception;
        }
        for (int i = 0; i < queued; i++)
        {
            Exception? other = items[i]!.Finish();
            failure ??= other;
        }
        if (failure is not null)
            ExceptionDispatchInfo.Throw(failure);
    }

    /// <summary>One call's work, on the caller's stack.</summary>
    private struct Job
    {
        internal nint Count, Chunk;
        internal delegate*<void*, nint, nint, void> Body;
        internal void* State;
        private nint next;

        internal void Work()
        {
            while (true)
            {
                nint start = Add(ref next, Chunk) - Chunk;
                if (start >= Count)
                    return;
                Body(State, start, Math.Min(start + Chunk, Count));
            }
        }

        private static nint Add(ref nint value, nint amount)
            => nint.Size == 8 ? (nint)Interlocked.Add(ref Unsafe.As<nint, long>(ref value), amount) : Interlocked.Add(ref Unsafe.As<nint, int>(ref value), (int)amount);
    }

    [InlineArray(Capacity)]
    private struct HelperList
    {
        internal const int Capacity = 63;
        private WorkItem? first;
    }

    /// <summary>A place in the thread pool's queue. The caller takes it back if nobody has begun by the time its own work is done.</summary>
    private sealed class WorkItem : IThreadPoolWorkItem
    {
        private const int Queued = 0, Running = 1, Done = 2, Revoked = 3;

        private int status;
        private Job* job;
        private Exception? failure;

        internal static WorkItem Take(Job* job)
        {
            WorkItem? item = null;
            for (int i = 0; i < spare.Length && item is null; i++)
                item = Interlocked.Exchange(ref spare[i], null);
            item ??= new WorkItem();
            item.job = job;
            Volatile.Write(ref item.status, Queued);
            return item;
        }

        public void Execute()
        {
            if (Interlocked.CompareExchange(ref status, Running, Queued) == Queued)
            {
                try
                {
                    job->Work();
                }
                catch (Exception exception)
                {
                    failure = exception;
                }
                // Streamed stores are not ordered by the write of the status.
                Streaming.Fence();
                Volatile.Write(ref status, Done);
            }
            else
            {
                // Revoked: the caller is gone, and this was the last reference in the queue.
                PutBack();
            }
        }

        /// <summary>Waits for who has begun.</summary>
        /// <returns>What the work threw there.</returns>
        internal Exception? Finish()
        {
            if (Interlocked.CompareExchange(ref status, Revoked, Queued) == Queued)
                return null;
            var wait = new SpinWait();
            while (Volatile.Read(ref status) != Done)
                wait.SpinOnce(sleep1Threshold: -1);
            Exception? thrown = failure;
            failure = null;
            PutBack();
            return thrown;
        }

        private void PutBack()
        {
            for (int i = 0; i < spare.Length; i++)
            {
                if (Interlocked.CompareExchange(ref spare[i], this, null) is null)
                    return;
            }
        }
    }
}
