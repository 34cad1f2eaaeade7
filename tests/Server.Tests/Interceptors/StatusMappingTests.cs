using System.Text;
using Google.Rpc;
using Grpc.Core;
using Sconce.Engine;
using Sconce.Server.Interceptors;

namespace Sconce.Server.Tests.Interceptors;

public sealed class StatusMappingTests
{
    [Theory]
    [InlineData(EngineError.InvalidArgument, StatusCode.InvalidArgument)]
    [InlineData(EngineError.FailedPrecondition, StatusCode.FailedPrecondition)]
    [InlineData(EngineError.NotFound, StatusCode.NotFound)]
    [InlineData(EngineError.AlreadyExists, StatusCode.AlreadyExists)]
    [InlineData(EngineError.ResourceExhausted, StatusCode.ResourceExhausted)]
    [InlineData(EngineError.Aborted, StatusCode.Aborted)]
    [InlineData(EngineError.Unimplemented, StatusCode.Unimplemented)]
    [InlineData(EngineError.DataLoss, StatusCode.DataLoss)]
    [InlineData(EngineError.Unavailable, StatusCode.Unavailable)]
    [InlineData(EngineError.DeadlineExceeded, StatusCode.DeadlineExceeded)]
    [InlineData(EngineError.Internal, StatusCode.Internal)]
    public void From_each_kind_has_its_code_message_and_reason(EngineError error, StatusCode code)
    {
        var status = StatusMapping.From(new EngineException(error, "WHY", "what happened"));

        Assert.Equal(((int)code, "what happened"), (status.Code, status.Message));
        Assert.Equal(new ErrorInfo { Domain = "sconce", Reason = "WHY" }, status.GetDetail<ErrorInfo>());
    }

    [Fact]
    public void From_every_kind_is_covered() =>
        Assert.Equal(Enum.GetValues<EngineError>().Length, Enum.GetValues<EngineError>().Select(StatusMapping.Code).Distinct().Count());

    [Fact]
    public void From_fields_become_a_bad_request()
    {
        var status = StatusMapping.From(EngineException.Invalid([new("inputs[0].shape[1]", "is -1"), new("inputs[1]", "is short")], "TENSOR"));

        Assert.Equal([("inputs[0].shape[1]", "is -1"), ("inputs[1]", "is short")], status.GetDetail<BadRequest>().FieldViolations.Select(v => (v.Field, v.Description)));
    }

    [Fact]
    public void From_resource_quota_and_retry_have_their_details()
    {
        var status = StatusMapping.From(EngineException.Exhausted("the module \"m\"", new QuotaRef("memory_budget_bytes", 3, 2, 4), TimeSpan.FromMilliseconds(250)));
        var violation = Assert.Single(status.GetDetail<QuotaFailure>().Violations);

        Assert.Equal(("memory_budget_bytes", "asked 3, used 2, allowed 4"), (violation.Subject, violation.Description));
        Assert.Equal(TimeSpan.FromMilliseconds(250), status.GetDetail<RetryInfo>().RetryDelay.ToTimeSpan());
        Assert.Equal(("module", "m"), StatusMapping.From(EngineException.NotFound("module", "m", "…")).GetDetail<ResourceInfo>() is { } r ? (r.ResourceType, r.ResourceName) : default);
    }

    [Fact]
    public void From_failed_precondition_tells_what_to_mend()
    {
        var status = StatusMapping.From(EngineException.Precondition("GRAPH_USED", "the graph was used", new ResourceRef("graph", "g1")));

        Assert.Equal(new PreconditionFailure.Types.Violation { Type = "GRAPH_USED", Subject = "g1", Description = "the graph was used" }, Assert.Single(status.GetDetail<PreconditionFailure>().Violations));
    }

    [Fact]
    public void From_a_thousand_fields_fits_the_trailers_of_every_client()
    {
        var status = StatusMapping.From(EngineException.Invalid([.. Enumerable.Range(0, 1000).Select(i => new FieldViolation($"layer{i}.weight", "is missing…"))]));
        var violations = status.GetDetail<BadRequest>().FieldViolations;

        Assert.InRange(InTrailers(status), 1, 7600);
        Assert.Matches("^layer0.weight: is missing…; .*; and [0-9]+ more$", status.Message);
        Assert.Equal($"and {1000 - (violations.Count - 1)} more", violations[^1].Description);
    }

    [Fact]
    public void From_a_long_message_is_cut_at_a_character()
    {
        var status = StatusMapping.From(new EngineException(EngineError.NotFound, "R", string.Concat(Enumerable.Repeat("é😀", 2000))));

        Assert.InRange(Encoded(status.Message), 1500, 1536);
        Assert.EndsWith("…", status.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\uFFFD', Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(status.Message)));
    }

    [Theory]
    [InlineData("k")]
    [InlineData("%")]
    [InlineData("é")]
    [InlineData("一")]
    [InlineData("😀")]
    public void From_anything_in_any_script_fits_the_trailers_of_every_client(string letter)
    {
        foreach (var length in (int[])[1, 60, 110, 500, 5000])
        {
            var text = string.Concat(Enumerable.Repeat(letter, length));
            foreach (var fields in (int[])[0, 1, 2, 5, 60])
            {
                foreach (var kind in Enum.GetValues<EngineError>())
                {
                    FieldViolation[] wrong = [.. Enumerable.Range(0, fields).Select(i => new FieldViolation($"header.entries[{i}]", text + i))];
                    var status = StatusMapping.From(new EngineException(kind, "THE_REASON_FOR_IT", fields == 0 ? text : string.Join("; ", wrong.Select(field => $"{field.Field}: {field.Description}")))
                    {
                        Fields = wrong,
                        Resource = new ResourceRef("module", text),
                        Quota = new QuotaRef("memory_budget_bytes", long.MaxValue, long.MaxValue, long.MaxValue),
                        RetryAfter = TimeSpan.FromSeconds(1),
                    });

                    Assert.InRange(InTrailers(status), 1, 7600);
                    Assert.True(length < 110 || fields < 60 || status.Message.EndsWith(" more", StringComparison.Ordinal), status.Message);
                    Assert.Equal(fields > 0, status.GetDetail<BadRequest>()?.FieldViolations.Count > 0);
                }
            }
        }
    }

    private static int InTrailers(Google.Rpc.Status status) => Encoded(status.Message) + ((status.CalculateSize() + 2) / 3 * 4);

    /// <summary>Bytes of a grpc-message: what is not printable ASCII, and the percent sign, is percent-encoded.</summary>
    private static int Encoded(string message) => Encoding.UTF8.GetBytes(message).Sum(b => b is >= 0x20 and <= 0x7e and not (byte)'%' ? 1 : 3);
}
