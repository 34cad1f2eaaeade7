using System.Runtime.CompilerServices;
using System.Threading.Channels;

namespace Sconce.Client.Internal;

/// <summary>A sequence through a pipeline.</summary>
internal static class Pipelines
{
    /// <summary>
    /// Starts <paramref name="send"/> for each item, at most <paramref name="maxInFlight"/> ahead of the reader, and gives the answers in
    /// order.
    /// </summary>
    public static async IAsyncEnumerable<TOut> RunAsync<TIn, TOut>(
        IAsyncEnumerable<TIn> source,
        Func<TIn, Task<TOut>> send,
        int maxInFlight,
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var answers = Channel.CreateBounded<Task<TOut>>(new BoundedChannelOptions(maxInFlight) { SingleReader = true, SingleWriter = true });
        // The source is read on its own: a slow one must not hold back the answers that are there.
        var producer = ProduceAsync(source, send, answers.Writer, stop.Token);
        try
        {
            await foreach (var answer in answers.Reader.ReadAllAsync(stop.Token).ConfigureAwait(false))
                yield return await answer.ConfigureAwait(false);
        }
        finally
        {
            await stop.CancelAsync().ConfigureAwait(false);
            await producer.ConfigureAwait(false);
            // What nobody waits for any more fails with the stream.
            while (answers.Reader.TryRead(out var unread))
                Observe(unread);
        }
    }

    /// <summary>Keeps the failure of a task that nobody may come to wait for from being reported as unobserved.</summary>
    public static void Observe(Task task) =>
        _ = task.ContinueWith(
            static failed => _ = failed.Exception,
            CancellationToken.None,
            TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously,
            TaskScheduler.Default);

    private static async Task ProduceAsync<TIn, TOut>(
        IAsyncEnumerable<TIn> source, Func<TIn, Task<TOut>> send, ChannelWriter<Task<TOut>> answers, CancellationToken cancellationToken)
    {
        try
        {
            await foreach (var item in source.WithCancellation(cancellationToken).ConfigureAwait(false))
            {
                var answer = send(item);
                try
                {
                    await answers.WriteAsync(answer, cancellationToken).ConfigureAwait(false);
                }
                catch
                {
                    Observe(answer);
                    throw;
                }
            }

            answers.TryComplete();
        }
        catch (Exception e)
        {
            // The reader throws it, after the answers before it.
            answers.TryComplete(e);
        }
    }
}
